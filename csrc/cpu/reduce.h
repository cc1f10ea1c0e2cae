// Sums. Each unit is summed in double in one fixed order, and the units of an event are added in
// order: the same bits at every thread count.
#pragma once

#include <vector>

#include "units.h"

namespace vae_ext {

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

  const EventUnits units(n_events, event_size);
  std::vector<double> sums(static_cast<size_t>(units.sums()), 0.0);
  units.parallel([&](int64_t unit) {
    const auto& k = kernels<T>();
    alignas(64) T values[kTile];
    double* of_unit = sums.data() + unit * units.sums_per_unit();
    units.for_each_tile_of(unit, [&](int64_t start, int n) {
      terms(start, n, values);
      units.for_each_stretch(unit, start, n, [&](int64_t i, int at, int count) {
        of_unit[i] += k.sum(count, values + at);
      });
    });
  });

  const double scale = plan.scale();
  parallel_tiles(n_events, [&](int64_t start, int n) {
    alignas(64) T buffer[kTile];
    T* values = result.begin(start, n, buffer);
    for (int i = 0; i < n; ++i) {
      const double* piece = sums.data() + (start + i) * units.pieces();
      double total = 0;
      for (int64_t p = 0; p < units.pieces(); ++p) total += piece[p];
      values[i] = static_cast<T>(total * scale);
    }
    result.finish(start, n, values, buffer);
  });
}

// terms(n, tiles, out) of an op's inputs, reduced.
template <class T, size_t N, class Terms>
void reduce_terms(const EventPlan& plan, const Tensor& out,
                  const std::array<const Input<T>*, N>& inputs, Terms terms) {
  reduce_terms<T>(plan, out, [&](int64_t start, int n, T* values) {
    Tiles<T, N> tiles;
    tiles.load(inputs, start, n);
    terms(n, tiles, values);
  });
}

// Sums over all elements of the terms that body(start, n, terms) computes, kSums of each element:
// the first times the plan's factor, the others as they are. A sum without a tensor is left out.
template <class T, size_t kSums, class Body>
void sum_everything(const EventPlan& plan, const std::array<const Tensor*, kSums>& outs,
                    Body body) {
  const int64_t units = (plan.numel + kUnit - 1) / kUnit;
  std::vector<std::array<double, kSums>> sums(static_cast<size_t>(units));
  if (units > 0) {
    torch::stable::parallel_for(0, units, kGrain / kUnit, [&](int64_t first, int64_t last) {
      const auto& k = kernels<T>();
      alignas(64) T terms[kSums][kTile];
      for (int64_t unit = first; unit < last; ++unit) {
        auto& sum = sums[static_cast<size_t>(unit)];
        for_each_tile(unit * kUnit, std::min((unit + 1) * kUnit, plan.numel),
                      [&](int64_t start, int n) {
                        body(start, n, terms);
                        for (size_t i = 0; i < kSums; ++i) {
                          if (outs[i]) sum[i] += k.sum(n, terms[i]);
                        }
                      });
      }
    });
  }
  for (size_t i = 0; i < kSums; ++i) {
    if (!outs[i]) continue;
    double total = 0;
    for (const auto& sum : sums) total += sum[i];
    total *= i == 0 ? plan.scale() : 1.0;
    kernels<double>().store(1, storage_of(outs[i]->scalar_type()), &total,
                            outs[i]->mutable_data_ptr(), 1);
  }
}

// Gradients that were written for kExpectedGradient, multiplied by what came instead.
template <class T>
void scale_in_place(const Tensor& gradient, double factor) {
  const Output<T> out(gradient);
  const Input<T> in(gradient, shape_of(gradient));
  parallel_tiles(gradient.numel(), [&](int64_t start, int n) {
    alignas(64) T buffer[kTile];
    const T* from = in.tile(start, n, buffer);
    T* to = out.begin(start, n, buffer);
    for (int i = 0; i < n; ++i) to[i] = from[i] * static_cast<T>(factor);
    out.finish(start, n, to, buffer);
  });
}

// Where the elements of an input's gradient are written: in the input's layout and dtype, or in the
// full shape if it was broadcast, which fit_gradient() sums. Empty if it is not wanted.
inline Tensor allocate_gradient(const EventPlan& plan, const Tensor& input, bool wanted) {
  const ScalarType dtype = input.scalar_type();
  if (!wanted) return empty({0}, dtype, input);
  if (shape_of(input) == plan.shape) return empty_like(input, dtype);
  return empty(plan.shape, arithmetic_type(dtype), input);
}

inline Tensor fit_gradient(const EventPlan& plan, const Tensor& input, const Tensor& written) {
  return shape_of(input) == plan.shape ? written : sum_to(written, input);
}

// What one input's gradient is: compute(start, n, tiles, out), elementwise.
template <class Compute>
struct Gradient {
  const Tensor& input;
  bool wanted;
  Compute compute;
  const Tensor* out = nullptr;  // where it goes, if not to a new tensor; of the full shape
};
template <class Compute>
Gradient(const Tensor&, bool, Compute) -> Gradient<Compute>;
template <class Compute>
Gradient(const Tensor&, bool, Compute, const Tensor*) -> Gradient<Compute>;

// The gradients of an op's inputs, in one pass over the elements: each in its input's shape, layout
// and dtype. The gradient of an input that was broadcast is summed: in the kernel where the input
// is a single element, and after it elsewhere. What is not wanted is empty.
template <class T, size_t N, class... Compute>
auto input_gradients(const EventPlan& plan, const std::array<const Input<T>*, N>& inputs,
                     const Gradient<Compute>&... gradient) {
  const auto summed = [&](const auto& g) {
    return g.wanted && g.input.numel() == 1 && shape_of(g.input) != plan.shape;
  };
  const auto allocate = [&](const auto& g) {
    if (g.out != nullptr) return *g.out;
    if (summed(g)) return empty(shape_of(g.input), g.input.scalar_type(), g.input);
    return allocate_gradient(plan, g.input, g.wanted);
  };
  const auto write = [](const auto& g, const Output<T>& result, int64_t start, int n,
                        const Tiles<T, N>& tiles) {
    alignas(64) T buffer[kTile];
    T* values = result.begin(start, n, buffer);
    g.compute(start, n, tiles, values);
    result.finish(start, n, values, buffer);
  };
  const auto sum = [&](const auto& g, const Tensor& out) {
    const EventPlan total(plan.shape, plan.event_dims, static_cast<int64_t>(Reduction::kSum));
    reduce_terms<T>(total, out, [&](int64_t start, int n, T* values) {
      Tiles<T, N> tiles;
      tiles.load(inputs, start, n);
      g.compute(start, n, tiles, values);
    });
  };

  const std::array<bool, sizeof...(Compute)> elementwise{(gradient.wanted && !summed(gradient))...};
  return [&]<size_t... I>(std::index_sequence<I...>) {
    const std::array<Tensor, sizeof...(Compute)> outs{allocate(gradient)...};
    const std::array<Output<T>, sizeof...(Compute)> results{Output<T>(outs[I])...};
    if ((elementwise[I] || ...)) {
      parallel_tiles(plan.numel, [&](int64_t start, int n) {
        Tiles<T, N> tiles;
        tiles.load(inputs, start, n);
        ((elementwise[I] ? write(gradient, results[I], start, n, tiles) : void()), ...);
      });
    }
    ((summed(gradient) ? sum(gradient, outs[I]) : void()), ...);
    const auto fit = [&](const auto& g, const Tensor& out) {
      return g.wanted && !summed(g) ? fit_gradient(plan, g.input, out) : out;
    };
    return std::make_tuple(fit(gradient, outs[I])...);
  }(std::index_sequence_for<Compute...>{});
}

}  // namespace vae_ext
