// KL divergence of diagonal Gaussians, forward and backward.
#include "gaussian_kl.h"

#include <torch/csrc/stable/library.h>

namespace vae_ext {
namespace {

template <class T>
void forward(const EventPlan& plan, const Tensor& out, const Tensor& mu, const Tensor& logvar,
             const MaybeTensor& prior_mu, const MaybeTensor& prior_logvar) {
  const auto& k = kernels<T>();
  if (!prior_mu && !prior_logvar) return kl_to_standard<T>(out, plan, mu, logvar);
  const Input<T> m(mu, plan.shape), lv(logvar, plan.shape);
  const Input<T> pm(prior_mu, T(0), plan.shape), plv(prior_logvar, T(0), plan.shape);
  reduce_terms<T, 4>(plan, out, {&m, &lv, &pm, &plv}, [&](int n, const auto& in, T* terms) {
    k.kl_prior(n, terms, in[0], in[1], in[2], in[3]);
  });
}

Tensor gaussian_kl(const Tensor& mu, const Tensor& logvar, const MaybeTensor& prior_mu,
                   const MaybeTensor& prior_logvar, int64_t event_dims, int64_t reduction) {
  const Problem p = kl_problem(mu, logvar, prior_mu, prior_logvar, event_dims, reduction);
  Tensor out = p.plan.allocate(p.dtype, mu);
  const auto run = p.wide() ? forward<double> : forward<float>;
  run(p.plan, out, mu, logvar, prior_mu, prior_logvar);
  return out;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class T>
Gradients backward(const EventPlan& plan, const Tensor& grad, const Tensor& mu,
                   const Tensor& logvar, const MaybeTensor& prior_mu,
                   const MaybeTensor& prior_logvar, Wanted wanted) {
  const auto& k = kernels<T>();
  const Input<T> g = Input<T>::gradient(grad, plan);
  const Input<T> m(mu, plan.shape), lv(logvar, plan.shape);
  if (!prior_mu && !prior_logvar) {
    const auto [dmu, dlogvar] = input_gradients<T, 3>(
        plan, {&g, &m, &lv},
        Gradient{mu, wanted[0],
                 [&](int64_t, int n, const auto& in, T* out) {
                   k.kl_standard_dmu(n, out, in[0], in[1]);
                 }},
        Gradient{logvar, wanted[1], [&](int64_t, int n, const auto& in, T* out) {
                   k.kl_standard_dlogvar(n, out, in[0], in[2]);
                 }});
    const auto none = [&] { return empty({0}, mu.scalar_type(), mu); };
    return {dmu, dlogvar, none(), none()};
  }
  const Input<T> pm(prior_mu, T(0), plan.shape), plv(prior_logvar, T(0), plan.shape);
  return input_gradients<T, 5>(
      plan, {&g, &m, &lv, &pm, &plv},
      Gradient{mu, wanted[0],
               [&](int64_t, int n, const auto& in, T* out) {
                 k.kl_prior_dmu(n, out, in[0], in[1], in[3], in[4]);
               }},
      Gradient{logvar, wanted[1],
               [&](int64_t, int n, const auto& in, T* out) {
                 k.kl_prior_dlogvar(n, out, in[0], in[2], in[4]);
               }},
      Gradient{prior_mu ? *prior_mu : mu, wanted[2] && prior_mu,
               [&](int64_t, int n, const auto& in, T* out) {  // dmu's with the two exchanged
                 k.kl_prior_dmu(n, out, in[0], in[3], in[1], in[4]);
               }},
      Gradient{prior_logvar ? *prior_logvar : mu, wanted[3] && prior_logvar,
               [&](int64_t, int n, const auto& in, T* out) {
                 k.kl_prior_dprior_logvar(n, out, in[0], in[1], in[2], in[3], in[4]);
               }});
}

Gradients gaussian_kl_backward(const Tensor& grad, const Tensor& mu, const Tensor& logvar,
                               const MaybeTensor& prior_mu, const MaybeTensor& prior_logvar,
                               int64_t event_dims, int64_t reduction, int64_t wanted) {
  const Problem p = kl_problem(mu, logvar, prior_mu, prior_logvar, event_dims, reduction);
  const auto run = p.wide() ? backward<double> : backward<float>;
  return run(p.plan, grad, mu, logvar, prior_mu, prior_logvar, Wanted(wanted));
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("gaussian_kl", TORCH_BOX(&vae_ext::gaussian_kl));
  m.impl("gaussian_kl_backward", TORCH_BOX(&vae_ext::gaussian_kl_backward));
}
