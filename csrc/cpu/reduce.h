// Threads and sums. Work is cut into units at places that depend on the shape alone, each unit is
// summed in double in one fixed order, and the units of an event are added in order: the same bits
// at every thread count.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <vector>

#include "operand.h"

namespace vae_ext {

constexpr int64_t kUnit = 16 * kTile;   // elements that one thread takes at a time
constexpr int64_t kGrain = 4 * kUnit;   // elements below which a second thread does not pay

// body(start, n) for tiles that cover [begin, end).
template <class Body>
void for_each_tile(int64_t begin, int64_t end, Body body) {
  for (int64_t start = begin; start < end; start += kTile) {
    body(start, static_cast<int>(std::min<int64_t>(kTile, end - start)));
  }
}

// body(start, n) for tiles that cover [0, numel), on all threads.
template <class Body>
void parallel_tiles(int64_t numel, Body body) {
  if (numel == 0) return;
  const int64_t units = (numel + kUnit - 1) / kUnit;
  torch::stable::parallel_for(0, units, kGrain / kUnit, [&](int64_t first, int64_t last) {
    for_each_tile(first * kUnit, std::min(last * kUnit, numel), body);
  });
}

// terms(start, n, out) computes n elementwise terms; they are stored, or summed over events or
// over everything, as the plan says.
template <class T, class Terms>
void reduce_terms(const EventPlan& plan, const Tensor& out, Terms terms) {
  const Output<T> result(out);
  const bool everything = plan.scalar();
  const int64_t n_events = everything ? 1 : plan.n_events;
  const int64_t event_size = everything ? plan.numel : plan.event_size;

  if (plan.reduction == Reduction::kNone || (!everything && event_size == 1)) {
    parallel_tiles(plan.numel, [&](int64_t start, int n) {
      alignas(64) T buffer[kTile];
      T* values = result.begin(start, n, buffer);
      terms(start, n, values);
      result.finish(start, n, values, buffer);
    });
    return;
  }

  // A unit is a run of whole events, or a piece of one large event.
  const int64_t pieces = std::max<int64_t>(1, (event_size + kUnit - 1) / kUnit);
  const int64_t events_per_unit = std::max<int64_t>(1, kUnit / std::max<int64_t>(1, event_size));
  const int64_t units =
      pieces > 1 ? n_events * pieces : (n_events + events_per_unit - 1) / events_per_unit;
  std::vector<double> sums(static_cast<size_t>(n_events * pieces), 0.0);

  const auto run_unit = [&](int64_t unit) {
    const auto& k = kernels<T>();
    alignas(64) T values[kTile];
    if (pieces > 1) {
      const int64_t event_begin = unit / pieces * event_size;
      const int64_t begin = event_begin + unit % pieces * kUnit;
      const int64_t end = std::min(begin + kUnit, event_begin + event_size);
      double& sum = sums[static_cast<size_t>(unit)];
      for_each_tile(begin, end, [&](int64_t start, int n) {
        terms(start, n, values);
        sum += k.sum(n, values);
      });
      return;
    }
    const int64_t first = unit * events_per_unit;
    const int64_t last = std::min(first + events_per_unit, n_events);
    int64_t event = first;
    int64_t event_end = (first + 1) * event_size;
    for_each_tile(first * event_size, last * event_size, [&](int64_t start, int n) {
      terms(start, n, values);
      for (int at = 0; at < n;) {  // cut the tile where events end
        const int count = static_cast<int>(std::min<int64_t>(n - at, event_end - (start + at)));
        sums[static_cast<size_t>(event)] += k.sum(count, values + at);
        at += count;
        if (start + at == event_end) {
          ++event;
          event_end += event_size;
        }
      }
    });
  };
  if (plan.numel > 0) {
    const int64_t unit_size = plan.numel / units + 1;
    torch::stable::parallel_for(0, units, std::max<int64_t>(1, kGrain / unit_size),
                                [&](int64_t first, int64_t last) {
                                  for (int64_t unit = first; unit < last; ++unit) run_unit(unit);
                                });
  }

  const double scale = plan.scale();
  parallel_tiles(n_events, [&](int64_t start, int n) {
    alignas(64) T buffer[kTile];
    T* values = result.begin(start, n, buffer);
    for (int i = 0; i < n; ++i) {
      const double* piece = sums.data() + (start + i) * pieces;
      double total = 0;
      for (int64_t p = 0; p < pieces; ++p) total += piece[p];
      values[i] = static_cast<T>(total * scale);
    }
    result.finish(start, n, values, buffer);
  });
}

// What one input's gradient is: compute(start, n, out), elementwise.
template <class Compute>
struct Gradient {
  const Tensor& input;
  bool wanted;
  Compute compute;
};
template <class Compute>
Gradient(const Tensor&, bool, Compute) -> Gradient<Compute>;

// The gradients of an op's inputs, in one pass over the elements: each in its input's shape, layout
// and dtype. An input broadcast from a single element gets the sum; one broadcast from any other
// smaller shape gets the gradient of the full shape in the arithmetic type, which autograd.py sums
// to size. What is not wanted is empty.
template <class T, class... Compute>
auto input_gradients(const EventPlan& plan, const Gradient<Compute>&... gradient) {
  const auto summed = [&](const Tensor& input) {
    return input.numel() == 1 && shape_of(input) != plan.shape;
  };
  const auto allocate = [&](const auto& g) {
    const ScalarType dtype = g.input.scalar_type();
    if (!g.wanted) return empty({0}, dtype, g.input);
    if (summed(g.input)) return empty(shape_of(g.input), dtype, g.input);
    if (shape_of(g.input) == plan.shape) return empty_like(g.input, dtype);
    return empty(plan.shape, arithmetic_type(dtype), g.input);
  };
  const auto write = [&](const auto& g, const Output<T>& result, int64_t start, int n) {
    if (!g.wanted || summed(g.input)) return;
    alignas(64) T buffer[kTile];
    T* values = result.begin(start, n, buffer);
    g.compute(start, n, values);
    result.finish(start, n, values, buffer);
  };
  const auto sum = [&](const auto& g, const Tensor& out) {
    if (!g.wanted || !summed(g.input)) return;
    const EventPlan total(plan.shape, plan.event_dims, static_cast<int64_t>(Reduction::kSum));
    reduce_terms<T>(total, out, g.compute);
  };

  const auto indices = std::index_sequence_for<Compute...>{};
  return [&]<size_t... I>(std::index_sequence<I...>) {
    std::array<Tensor, sizeof...(Compute)> outs{allocate(gradient)...};
    const std::array<Output<T>, sizeof...(Compute)> results{Output<T>(outs[I])...};
    if (((gradient.wanted && !summed(gradient.input)) || ...)) {
      parallel_tiles(plan.numel,
                     [&](int64_t start, int n) { (write(gradient, results[I], start, n), ...); });
    }
    (sum(gradient, outs[I]), ...);
    return std::make_tuple(outs[I]...);
  }(indices);
}

}  // namespace vae_ext
