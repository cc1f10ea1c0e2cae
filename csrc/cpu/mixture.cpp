// The log-density of a mixture of diagonal Gaussians and its gradients, from blocks of rows against
// panels of components (mixture_loops.inl). Nothing of the size rows x components is kept: the
// backward pass computes again what each component weighs, once for the gradient by z and once for
// those by the parameters.
#include "../ops/mixture.h"

#include <cmath>
#include <limits>
#include <memory>

#include "../math/formula.h"
#include "chunks.h"

namespace vae_ext {
namespace {

constexpr int64_t kRows = kMixtureRows, kPanel = kMixturePanel;
constexpr int kTile2 = kMixtureRows * kMixturePanel;  // pairs of a block and a panel
constexpr int kPanels = 4;                            // that one log-sum takes at a time
constexpr int kGradientPanels = 16;                   // the same for the gradient by z

int64_t blocks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

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

template <class T>
void forward(const MixtureArguments& a, const std::array<Tensor, 2>& out) {
  const Mixture<T> m(a);
  auto* const value = static_cast<T*>(out[0].mutable_data_ptr());
  auto* const wide = static_cast<double*>(out[1].mutable_data_ptr());
  m.each_block([&](int64_t block, int64_t group) {
    alignas(64) double terms[kPanels * kTile2], most[kTile2];
    alignas(64) T sums[kTile2];
    // So low that nothing is below it but -inf, from which it can be subtracted.
    std::fill(most, most + kTile2, std::numeric_limits<double>::lowest());
    std::fill(sums, sums + kTile2, T(0));
    for (int64_t panel = 0; panel < m.means.blocks(); panel += kPanels) {
      const int n = static_cast<int>(std::min<int64_t>(kPanels, m.means.blocks() - panel));
      for (int p = 0; p < n; ++p) m.terms(block, panel + p, group, terms + p * kTile2);
      kernels<T>().mixture.add(n, terms, most, sums);
    }
    for (int64_t r = 0; r < m.rows_of(block); ++r) {
      const double* top = most + r * kPanel;
      const double largest = *std::max_element(top, top + kPanel);
      double sum = 0;
      for (int64_t i = 0; i < kPanel; ++i) {
        sum += static_cast<double>(sums[r * kPanel + i]) * std::exp(top[i] - largest);
      }
      const double found = largest + std::log(sum);
      const int64_t at = (block * kRows + r) * a.groups + group;
      wide[at] = found;
      value[at] = static_cast<T>(found);
    }
  });
}

// The incoming gradient and the log-density of a block of rows, with zeros at the end.
template <class T>
struct Incoming {
  alignas(64) T g[kRows];
  alignas(64) double log_sum[kRows];

  Incoming(const MixtureIncoming& in, const Mixture<T>& m, int64_t block, int64_t group) {
    const int n = static_cast<int>(m.rows_of(block));
    const auto read = [&](const Tensor& t, auto* out) {
      using S = std::remove_reference_t<decltype(*out)>;
      const Storage storage = storage_of(t.scalar_type());
      const int64_t at = block * kRows * t.strides()[0] + group * t.strides()[1];
      kernels<S>().load(n, storage,
                        static_cast<const char*>(t.const_data_ptr()) + at * size_of(storage),
                        t.strides()[0], out);
      std::fill(out + n, out + kRows, S(0));
    };
    read(in.grad, g);
    read(in.log_sum, log_sum);
  }
};

// Where the gradient of a tensor [n, groups, dims] goes, a run along the first dimension at a time.
struct Target {
  const Tensor& t;
  template <class T>
  void store(int64_t first, int64_t n, int64_t group, int64_t d, const double* found) const {
    T buffer[kRows];
    for (int64_t i = 0; i < n; ++i) buffer[i] = static_cast<T>(found[i]);
    const Storage storage = storage_of(t.scalar_type());
    const auto stride = t.strides();
    const int64_t at = first * stride[0] + group * stride[1] + d * stride[2];
    kernels<T>().store(static_cast<int>(n), storage, buffer,
                       static_cast<char*>(t.mutable_data_ptr()) + at * size_of(storage), stride[0]);
  }
};

template <class T>
void gradient_by_z(const MixtureIncoming& in, const Mixture<T>& m, const Tensor& out) {
  const MixtureArguments& a = m.a;
  m.each_block([&](int64_t block, int64_t group) {
    const Incoming<T> of_rows(in, m, block, group);
    alignas(64) double terms[kTile2];
    Array<T> shares(kGradientPanels * kTile2);
    Array<double> sums(a.dims * kRows);
    std::fill_n(sums.at(0), a.dims * kRows, 0.);
    for (int64_t panel = 0; panel < m.means.blocks(); panel += kGradientPanels) {
      const int n = static_cast<int>(std::min<int64_t>(kGradientPanels, m.means.blocks() - panel));
      for (int p = 0; p < n; ++p) {
        m.terms(block, panel + p, group, terms);
        kernels<T>().mixture.shares(terms, of_rows.log_sum, of_rows.g, shares.at(p * kTile2));
      }
      kernels<T>().mixture.z_gradient(a.dims, n, m.means.step(), m.z.of(block, group),
                                      m.means.of(panel, group), m.inverse.of(panel, group),
                                      shares.at(0), sums.at(0));
    }
    for (int64_t d = 0; d < a.dims; ++d) {
      Target{out}.store<T>(block * kRows, m.rows_of(block), group, d, sums.at(d * kRows));
    }
  });
}

void store_weights(const Tensor& out, int64_t row, int64_t first, int64_t n, const double* found) {
  const Storage storage = storage_of(out.scalar_type());
  const auto stride = out.strides();
  auto* to = static_cast<char*>(out.mutable_data_ptr()) +
             (row * stride[0] + first * stride[1]) * size_of(storage);
  kernels<double>().store(static_cast<int>(n), storage, found, to, stride[1]);
}

// Of the means, log-variances and log-weights. The rows come in parts where there are few
// components: how many depends on the shape alone.
template <class T>
void gradients_by_parameters(const MixtureIncoming& in, const Mixture<T>& m, OutputMask mask,
                             const std::array<Tensor, 4>& out) {
  constexpr int64_t kUnits = 64, kFewest = 8;  // units of work, and the least blocks of a part
  const MixtureArguments& a = m.a;
  const int64_t panels = m.means.blocks(), blocks = m.z.blocks(), units = panels * a.groups;
  const int64_t parts = std::max<int64_t>(
      1, std::min(blocks_of(kUnits, std::max<int64_t>(units, 1)), blocks / kFewest));
  const int64_t size = a.dims * kPanel, stride = 2 * size + kPanel;
  Array<double> sums(parts * units * stride);
  std::fill_n(sums.at(0), parts * units * stride, 0.);
  torch::stable::parallel_for(0, parts * units, 1, [&](int64_t first, int64_t last) {
    alignas(64) double terms[kTile2];
    alignas(64) T shares[kTile2];
    for (int64_t i = first; i < last; ++i) {
      const int64_t part = i / units, panel = i % units / a.groups, group = i % a.groups;
      double* sum = sums.at(i * stride);
      for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; ++b) {
        const Incoming<T> of_rows(in, m, b, group);
        m.terms(b, panel, group, terms);
        kernels<T>().mixture.shares(terms, of_rows.log_sum, of_rows.g, shares);
        kernels<T>().mixture.parameter_gradients(a.dims, m.z.of(b, group), m.means.of(panel, group),
                                                 m.inverse.of(panel, group), shares, sum,
                                                 sum + size, sum + 2 * size);
      }
    }
  });
  Array<double> by_weight(panels * kPanel);
  std::fill_n(by_weight.at(0), panels * kPanel, 0.);
  for (int64_t unit = 0; unit < units; ++unit) {
    double* sum = sums.at(unit * stride);
    for (int64_t part = 1; part < parts; ++part) {
      const double* more = sums.at((part * units + unit) * stride);
      for (int64_t i = 0; i < stride; ++i) sum[i] += more[i];
    }
    const int64_t panel = unit / a.groups, group = unit % a.groups, first = panel * kPanel;
    const int64_t n = std::min(kPanel, a.components - first);
    for (int which = 0; which < 2; ++which) {
      if (!mask[1 + which]) continue;
      for (int64_t d = 0; d < a.dims; ++d) {
        Target{out[1 + which]}.store<T>(first, n, group, d, sum + which * size + d * kPanel);
      }
    }
    for (int64_t i = 0; i < kPanel; ++i) *by_weight.at(first + i) += sum[2 * size + i];
  }
  if (mask[3] && !a.weights_by_row()) {
    store_weights(out[3], 0, 0, a.components, by_weight.at(0));
  }
}

// Of the log-weights that each row has of its own, which all of its groups share.
template <class T>
void gradient_by_row_weights(const MixtureIncoming& in, const Mixture<T>& m, const Tensor& out) {
  const MixtureArguments& a = m.a;
  m.z.each_block([&](int64_t block) {
    alignas(64) double terms[kTile2], sums[kTile2];
    alignas(64) T shares[kTile2];
    for (int64_t panel = 0; panel < m.means.blocks(); ++panel) {
      std::fill(sums, sums + kTile2, 0.);
      for (int64_t group = 0; group < a.groups; ++group) {
        const Incoming<T> of_rows(in, m, block, group);
        m.terms(block, panel, group, terms);
        kernels<T>().mixture.shares(terms, of_rows.log_sum, of_rows.g, shares);
        for (int i = 0; i < kTile2; ++i) sums[i] += static_cast<double>(shares[i]);
      }
      const int64_t first = panel * kPanel, n = std::min(kPanel, a.components - first);
      for (int64_t r = 0; r < m.rows_of(block); ++r) {
        store_weights(out, block * kRows + r, first, n, sums + r * kPanel);
      }
    }
  });
}

template <class T>
void backward(const MixtureIncoming& in, const MixtureArguments& a, OutputMask mask,
              const std::array<Tensor, 4>& out) {
  const Mixture<T> m(a);
  if (mask[0]) gradient_by_z(in, m, out[0]);
  const bool by_row = a.weights_by_row();
  if (mask[1] || mask[2] || (mask[3] && !by_row)) gradients_by_parameters(in, m, mask, out);
  if (mask[3] && by_row) gradient_by_row_weights(in, m, out[3]);
}

#include "../ops/mixture_ops.inl"

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) { VAE_EXT_REGISTER_MIXTURE(m) }
