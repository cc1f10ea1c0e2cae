// Gaussian log-likelihood with a fixed, a scalar or a per-element log-variance, forward and
// backward. Words moved per element with a log-variance for each: forward 3 (elementwise one
// more), backward 3 read and 2 written; value and gradients in one pass 3 and 2.
#include <torch/csrc/stable/library.h>

#include "../formulas.h"
#include "gradients.cuh"

namespace vae_ext {
namespace {

struct Value {  // mean, target, logvar
  static constexpr int kInputs = 3, kOutputs = 1;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[3], T (&out)[1]) {
    out[0] = gaussian(in[0], in[1], in[2]);
  }
};

// The derivatives by logvar, mean and target: that by logvar is first, to be summed where the
// log-variance is a scalar.
template <class T>
VAE_EXT_DEVICE void derivatives(const T (&in)[4], T* out) {  // incoming, mean, target, logvar
  out[0] = gaussian_dlogvar(in[0], in[1], in[2], in[3]);
  out[1] = gaussian_dmean(in[0], in[1], in[2], in[3]);
  out[2] = -out[1];
}

struct Derivatives {
  static constexpr int kInputs = 4, kOutputs = 3;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[4], T (&out)[3]) {
    derivatives(in, out);
  }
};

struct Both {
  static constexpr int kInputs = 4, kOutputs = 4;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[4], T (&out)[4]) {
    out[0] = gaussian(in[1], in[2], in[3]);
    derivatives(in, out + 1);
  }
};

template <int kSums>
using ValueBody = Map<Value, kSums>;

struct GaussianProblem : Problem {
  Launcher launcher;
  const Tensor& mean;
  const Tensor& target;
  const MaybeTensor& logvar;
  double logvar_value;

  GaussianProblem(const Tensor& mean_, const Tensor& target_, const MaybeTensor& logvar_,
                  double value, int64_t event_dims, int64_t reduction)
      : Problem(gaussian_problem(mean_, target_, logvar_, event_dims, reduction)),
        launcher(mean_),
        mean(mean_),
        target(target_),
        logvar(logvar_),
        logvar_value(value) {}

  void fill(Operand* in, int width) const {
    in[0] = Operand(mean, plan.shape, width);
    in[1] = Operand(target, plan.shape, width);
    in[2] = Operand(logvar, logvar_value, plan.shape, width);
  }

  using Three = std::tuple<Tensor, Tensor, Tensor>;

  // The gradients of mean, target and logvar for an incoming one, by a formula whose first kSums
  // outputs besides a scalar logvar's gradient are sums.
  template <class Formula, size_t kSums, class Incoming>
  Three differentiate(Wanted wanted, Incoming incoming, const Totals<kSums>& totals) const {
    const auto inputs = [&](auto& body, int width) {
      body.in[0] = incoming(width);
      fill(body.in + 1, width);
    };
    const WantedGradient dmean(mean, wanted[0]), dtarget(target, wanted[1]);
    const WantedGradient dlogvar(logvar, wanted[2]);
    if (dlogvar && logvar->numel() == 1 && shape_of(*logvar) != plan.shape) {
      Tensor sum = empty(shape_of(*logvar), logvar->scalar_type(), mean);
      Totals<kSums + 1> more;
      std::copy(totals.out.begin(), totals.out.end(), more.out.begin());
      std::copy(totals.scale.begin(), totals.scale.end(), more.scale.begin());
      more.out[kSums] = sum;
      more.scale[kSums] = 1;
      const auto out = gradients<Map<Formula, kSums + 1>, 2>(launcher, plan, wide(), mean,
                                                             {dmean, dtarget}, inputs, more);
      return {out[0], out[1], sum};
    }
    const auto out = gradients<Map<Formula, kSums>, 3>(launcher, plan, wide(), mean,
                                                       {dlogvar, dmean, dtarget}, inputs, totals);
    return {out[1], out[2], out[0]};
  }
};

Tensor gaussian_log_likelihood(const Tensor& mean, const Tensor& target, const MaybeTensor& logvar,
                               double logvar_value, int64_t event_dims, int64_t reduction) {
  const GaussianProblem p(mean, target, logvar, logvar_value, event_dims, reduction);
  return reduced<ValueBody>(p.launcher, p.plan, p.dtype, mean,
                            [&](auto& body, int width) { p.fill(body.in, width); });
}

std::tuple<Tensor, Tensor, Tensor> gaussian_log_likelihood_backward(
    const Tensor& grad, const Tensor& mean, const Tensor& target, const MaybeTensor& logvar,
    double logvar_value, int64_t event_dims, int64_t reduction, int64_t wanted) {
  const GaussianProblem p(mean, target, logvar, logvar_value, event_dims, reduction);
  const auto incoming = [&](int width) { return Operand::gradient(grad, p.plan, width); };
  return p.differentiate<Derivatives, 0>(Wanted(wanted), incoming, {});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gaussian_log_likelihood_with_gradients(
    const Tensor& mean, const Tensor& target, const MaybeTensor& logvar, double logvar_value,
    int64_t event_dims, int64_t reduction, int64_t wanted) {
  const GaussianProblem p(mean, target, logvar, logvar_value, event_dims, reduction);
  const Tensor value = p.plan.allocate(p.dtype, mean);
  const auto incoming = [&](int) { return Operand::constant(kExpectedGradient * p.plan.scale()); };
  auto [dmean, dtarget, dlogvar] =
      p.differentiate<Both, 1>(Wanted(wanted), incoming, Totals<1>{{value}, {p.plan.scale()}});
  return {value, dmean, dtarget, dlogvar};
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  m.impl("gaussian_log_likelihood", TORCH_BOX(&vae_ext::gaussian_log_likelihood));
  m.impl("gaussian_log_likelihood_backward", TORCH_BOX(&vae_ext::gaussian_log_likelihood_backward));
  m.impl("gaussian_log_likelihood_with_gradients",
         TORCH_BOX(&vae_ext::gaussian_log_likelihood_with_gradients));
}
