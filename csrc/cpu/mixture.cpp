// The log-density of a mixture of diagonal Gaussians and its gradients, from blocks of rows against
// panels of components (mixture_loops.inl). Nothing of the size rows x components is kept: the
// backward pass computes again what each component weighs, once for the gradient by z and once for
// those by the parameters.
#include "mixture.h"

#include <cmath>

namespace vae_ext {
namespace {

constexpr int kPanels = 4;           // that one log-sum takes at a time
constexpr int kGradientPanels = 16;  // the same for the gradient by z

template <class T>
void forward(const MixtureArguments& a, const std::array<Tensor, 2>& out) {
  const Mixture<T> m(a);
  auto* const value = static_cast<T*>(out[0].mutable_data_ptr());
  auto* const wide = static_cast<double*>(out[1].mutable_data_ptr());
  m.each_block([&](int64_t block, int64_t group) {
    alignas(64) double terms[kPanels * kPairs], most[kPairs];
    alignas(64) T sums[kPairs];
    // So low that nothing is below it but -inf, from which it can be subtracted.
    std::fill(most, most + kPairs, std::numeric_limits<double>::lowest());
    std::fill(sums, sums + kPairs, T(0));
    for (int64_t panel = 0; panel < m.means.blocks(); panel += kPanels) {
      const int n = static_cast<int>(std::min<int64_t>(kPanels, m.means.blocks() - panel));
      for (int p = 0; p < n; ++p) m.terms(block, panel + p, group, terms + p * kPairs);
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
    alignas(64) double terms[kPairs];
    Array<T> shares(kGradientPanels * kPairs);
    Array<double> sums(a.dims * kRows);
    std::fill_n(sums.at(0), a.dims * kRows, 0.);
    for (int64_t panel = 0; panel < m.means.blocks(); panel += kGradientPanels) {
      const int n = static_cast<int>(std::min<int64_t>(kGradientPanels, m.means.blocks() - panel));
      for (int p = 0; p < n; ++p) {
        m.terms(block, panel + p, group, terms);
        kernels<T>().mixture.shares(terms, of_rows.log_sum, of_rows.g, shares.at(p * kPairs));
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
    alignas(64) double terms[kPairs];
    alignas(64) T shares[kPairs];
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
    alignas(64) double terms[kPairs], sums[kPairs];
    alignas(64) T shares[kPairs];
    for (int64_t panel = 0; panel < m.means.blocks(); ++panel) {
      std::fill(sums, sums + kPairs, 0.);
      for (int64_t group = 0; group < a.groups; ++group) {
        const Incoming<T> of_rows(in, m, block, group);
        m.terms(block, panel, group, terms);
        kernels<T>().mixture.shares(terms, of_rows.log_sum, of_rows.g, shares);
        for (int i = 0; i < kPairs; ++i) sums[i] += static_cast<double>(shares[i]);
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
