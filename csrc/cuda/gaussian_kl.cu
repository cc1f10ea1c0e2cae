// KL divergence of diagonal Gaussians, forward and backward. Words moved per element: forward 2
// (4 with a prior), elementwise one more; backward 2 read and 2 written (4 and 4).
#include <torch/csrc/stable/library.h>

#include "../formulas.h"
#include "gaussian_kl.cuh"
#include "gradients.cuh"

namespace vae_ext {
namespace {

struct Standard {  // mu, logvar
  static constexpr int kInputs = 2, kOutputs = 1;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[2], T (&out)[1]) {
    out[0] = kl_standard(in[0], in[1]);
  }
};

struct Prior {  // mu, logvar, prior_mu, prior_logvar
  static constexpr int kInputs = 4, kOutputs = 1;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[4], T (&out)[1]) {
    out[0] = kl_prior(in[0], in[1], in[2], in[3]);
  }
};

struct StandardDerivatives {  // incoming, mu, logvar
  static constexpr int kInputs = 3, kOutputs = 2;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[3], T (&out)[2]) {
    out[0] = kl_standard_dmu(in[0], in[1]);
    out[1] = kl_standard_dlogvar(in[0], in[2]);
  }
};

struct PriorDerivatives {  // incoming, mu, logvar, prior_mu, prior_logvar
  static constexpr int kInputs = 5, kOutputs = 4;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[5], T (&out)[4]) {
    out[0] = kl_prior_dmu(in[0], in[1], in[3], in[4]);
    out[1] = kl_prior_dlogvar(in[0], in[2], in[4]);
    out[2] = -out[0];
    out[3] = kl_prior_dprior_logvar(in[0], in[1], in[2], in[3], in[4]);
  }
};

template <int kSums_>
struct StandardValue : Map<Standard, kSums_> {
  Bounds bounds;

  template <class V, class Terms>
  VAE_EXT_DEVICE void run(const Span& span, Terms& terms) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(this->in[0], span), logvar_bits = fetch<V>(this->in[1], span);
    T m[V::kWidth], lv[V::kWidth], kl[V::kWidth];
    values<V>(this->in[0], mu_bits, span, m);
    values<V>(this->in[1], logvar_bits, span, lv);
    bound(bounds, lv);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      const T in[] = {m[j], lv[j]};
      T out[1];
      Standard::apply(in, out);
      kl[j] = out[0];
      if constexpr (kSums_ > 0) terms[0][j] = kl[j];
    }
    if constexpr (kSums_ == 0) store<V>(this->out[0], span, kl);
  }
};
template <int kSums>
using PriorValue = Map<Prior, kSums>;

}  // namespace

Tensor kl_to_standard(const Launcher& launcher, const EventPlan& plan, ScalarType dtype,
                      const Tensor& mu, const Tensor& logvar, const Bounds& bounds) {
  return reduced<StandardValue>(launcher, plan, dtype, mu, [&](auto& body, int width) {
    body.bounds = bounds;
    body.in[0] = Operand(mu, plan.shape, width);
    body.in[1] = Operand(logvar, plan.shape, width);
  });
}

namespace {

Tensor gaussian_kl(const Tensor& mu, const Tensor& logvar, const MaybeTensor& prior_mu,
                   const MaybeTensor& prior_logvar, int64_t event_dims, int64_t reduction) {
  const Problem p = kl_problem(mu, logvar, prior_mu, prior_logvar, event_dims, reduction);
  const Launcher launcher(mu);
  if (!prior_mu && !prior_logvar) return kl_to_standard(launcher, p.plan, p.dtype, mu, logvar);
  return reduced<PriorValue>(launcher, p.plan, p.dtype, mu, [&](auto& body, int width) {
    body.in[0] = Operand(mu, p.plan.shape, width);
    body.in[1] = Operand(logvar, p.plan.shape, width);
    body.in[2] = Operand(prior_mu, 0, p.plan.shape, width);
    body.in[3] = Operand(prior_logvar, 0, p.plan.shape, width);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gaussian_kl_backward(
    const Tensor& grad, const Tensor& mu, const Tensor& logvar, const MaybeTensor& prior_mu,
    const MaybeTensor& prior_logvar, int64_t event_dims, int64_t reduction, int64_t wanted_bits) {
  const Problem p = kl_problem(mu, logvar, prior_mu, prior_logvar, event_dims, reduction);
  const Wanted wanted(wanted_bits);
  const Launcher launcher(mu);
  const auto triple = [&](auto& body, int width) {
    body.in[0] = Operand::gradient(grad, p.plan, width);
    body.in[1] = Operand(mu, p.plan.shape, width);
    body.in[2] = Operand(logvar, p.plan.shape, width);
  };
  const WantedGradient dmu(mu, wanted[0]), dlogvar(logvar, wanted[1]);
  if (!prior_mu && !prior_logvar) {
    const auto out = gradients<Map<StandardDerivatives>, 2>(launcher, p.plan, p.wide(), mu,
                                                            {dmu, dlogvar}, triple);
    const auto none = [&] { return empty({0}, mu.scalar_type(), mu); };
    return {out[0], out[1], none(), none()};
  }
  const auto out = gradients<Map<PriorDerivatives>, 4>(
      launcher, p.plan, p.wide(), mu,
      {dmu, dlogvar, WantedGradient(prior_mu, wanted[2]), WantedGradient(prior_logvar, wanted[3])},
      [&](auto& body, int width) {
        triple(body, width);
        body.in[3] = Operand(prior_mu, 0, p.plan.shape, width);
        body.in[4] = Operand(prior_logvar, 0, p.plan.shape, width);
      });
  return {out[0], out[1], out[2], out[3]};
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  m.impl("gaussian_kl", TORCH_BOX(&vae_ext::gaussian_kl));
  m.impl("gaussian_kl_backward", TORCH_BOX(&vae_ext::gaussian_kl_backward));
}
