// A mixture as the loops of mixture_loops.inl want it: events in blocks, components in panels, and
// what of a component's log-density depends on no event.
#pragma once

#include <limits>
#include <memory>

#include "../math/formula.h"
#include "../ops/mixture.h"
#include "chunks.h"

namespace vae_ext {

constexpr int64_t kRows = kMixtureRows, kPanel = kMixturePanel;
constexpr int kPairs = kMixtureRows * kMixturePanel;  // of a block and a panel

inline int64_t blocks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

// body(i) for i below n on all threads, each of which costs as much as so many elements.
template <class Body>
void parallel_units(int64_t n, int64_t cost, Body body) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cost));
  torch::stable::parallel_for(0, n, grain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(i);
  });
}

// Arrays that the loops read in whole vectors.
template <class T>
struct Array {
  std::unique_ptr<T[]> data;
  explicit Array(int64_t n) : data(new T[static_cast<size_t>(std::max<int64_t>(n, 1))]) {}
  T* at(int64_t i) const { return data.get() + i; }
};

// [n, groups, dims] as [blocks][groups][dims][kSize], converted to T, with zeros at the end.
template <class T, int64_t kSize>
class Packed {
 public:
  explicit Packed(const Tensor& t)
      : groups_(t.sizes()[1]),
        dims_(t.sizes()[2]),
        blocks_(blocks_of(t.sizes()[0], kSize)),
        array_(blocks_ * groups_ * dims_ * kSize) {
    const Storage storage = storage_of(t.scalar_type());
    const auto* source = static_cast<const char*>(t.const_data_ptr());
    const int64_t n = t.sizes()[0];
    const auto stride = t.strides();
    each_block([&](int64_t block) {
      const int count = static_cast<int>(std::min(kSize, n - block * kSize));
      for (int64_t g = 0; g < groups_; ++g) {
        for (int64_t d = 0; d < dims_; ++d) {
          T* out = of(block, g) + d * kSize;
          const int64_t offset = block * kSize * stride[0] + g * stride[1] + d * stride[2];
          kernels<T>().load(count, storage, source + offset * size_of(storage), stride[0], out);
          std::fill(out + count, out + kSize, T(0));
        }
      }
    });
  }

  T* of(int64_t block, int64_t group) const {
    return array_.at((block * groups_ + group) * dims_ * kSize);
  }
  int64_t blocks() const { return blocks_; }
  int64_t step() const { return groups_ * dims_ * kSize; }  // from block to block

  template <class Body>
  void each_block(Body body) const {
    parallel_units(blocks_, groups_ * dims_ * kSize, body);
  }

 private:
  int64_t groups_, dims_, blocks_;
  Array<T> array_;
};

// A mixture as the loops want it.
template <class T>
struct Mixture {
  const MixtureArguments& a;
  Packed<T, kRows> z;
  Packed<T, kPanel> means, inverse;
  Array<double> constants;  // [panels][groups][kPanel]: log-weight, and what depends on no row
  Array<double> weights;    // [rows][components], of each row its own

  explicit Mixture(const MixtureArguments& args)
      : a(args),
        z(args.z),
        means(args.means),
        inverse(args.logvars),
        constants(inverse.blocks() * args.groups * kPanel),
        weights(args.weights_by_row() ? args.rows * args.components : 0) {
    const auto& k = kernels<T>();
    const Storage storage = storage_of(a.log_weights.scalar_type());
    const auto stride = a.log_weights.strides();
    const auto read = [&](int64_t row, int64_t first, int64_t n, double* out) {
      const int64_t offset = row * stride[0] + first * stride[1];
      kernels<double>().load(
          static_cast<int>(n), storage,
          static_cast<const char*>(a.log_weights.const_data_ptr()) + offset * size_of(storage),
          stride[1], out);
    };
    if (a.weights_by_row()) {
      for (int64_t row = 0; row < a.rows; ++row) {
        for (int64_t i = 0; i < a.components; i += kTile) {
          const int64_t n = std::min<int64_t>(kTile, a.components - i);
          read(row, i, n, weights.at(row * a.components + i));
        }
      }
    }
    inverse.each_block([&](int64_t panel) {
      const int64_t first = panel * kPanel, n = std::min(kPanel, a.components - first);
      double lead[kPanel] = {};
      if (!a.weights_by_row()) read(0, first, n, lead);
      for (int64_t g = 0; g < a.groups; ++g) {
        T* logvar = inverse.of(panel, g);
        double* c = of_constants(panel, g);
        double sum[kPanel] = {};
        for (int64_t d = 0; d < a.dims; ++d) {
          for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<double>(logvar[d * kPanel + i]);
          k.mixture.inverse_scales(kPanel, logvar + d * kPanel, logvar + d * kPanel);
        }
        for (int64_t i = 0; i < kPanel; ++i) {
          c[i] = i < n ? lead[i] - 0.5 * (sum[i] + kLog2Pi<double> * static_cast<double>(a.dims))
                       : -std::numeric_limits<double>::infinity();
        }
      }
    });
  }

  double* of_constants(int64_t panel, int64_t group) const {
    return constants.at((panel * a.groups + group) * kPanel);
  }

  // Log-weights and log-densities of a block of rows under a panel, [rows][components].
  void terms(int64_t block, int64_t panel, int64_t group, double* out) const {
    kernels<T>().mixture.terms(a.dims, z.of(block, group), means.of(panel, group),
                               inverse.of(panel, group), of_constants(panel, group), out);
    if (!a.weights_by_row()) return;
    const int64_t first = panel * kPanel, n = std::min(kPanel, a.components - first);
    for (int64_t r = 0; r < rows_of(block); ++r) {
      const double* row = weights.at((block * kRows + r) * a.components + first);
      for (int64_t i = 0; i < n; ++i) out[r * kPanel + i] += row[i];
    }
  }

  int64_t rows_of(int64_t block) const { return std::min(kRows, a.rows - block * kRows); }

  // body(block, group) on all threads.
  template <class Body>
  void each_block(Body body) const {
    parallel_units(z.blocks() * a.groups, kRows * a.components * (a.dims + 8),
                   [&](int64_t i) { body(i / a.groups, i % a.groups); });
  }
};

}  // namespace vae_ext
