// Gaussian log-likelihood with a fixed, a scalar or a per-element log-variance, forward and
// backward.
#include <torch/csrc/stable/library.h>

#include "reduce.h"

namespace vae_ext {
namespace {

template <class T>
void forward(const EventPlan& plan, const Tensor& out, const Tensor& mean, const Tensor& target,
             const MaybeTensor& logvar, double logvar_value) {
  const auto& k = kernels<T>();
  const Input<T> m(mean, plan.shape), x(target, plan.shape);
  const Input<T> lv(logvar, static_cast<T>(logvar_value), plan.shape);
  reduce_terms<T, 3>(plan, out, {&m, &x, &lv}, [&](int n, const auto& in, T* terms) {
    k.gaussian(n, terms, in[0], in[1], in[2]);
  });
}

Tensor gaussian_log_likelihood(const Tensor& mean, const Tensor& target, const MaybeTensor& logvar,
                               double logvar_value, int64_t event_dims, int64_t reduction) {
  const Problem p = gaussian_problem(mean, target, logvar, event_dims, reduction);
  Tensor out = p.plan.allocate(p.dtype, mean);
  const auto run = p.wide() ? forward<double> : forward<float>;
  run(p.plan, out, mean, target, logvar, logvar_value);
  return out;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

template <class T>
Gradients backward(const EventPlan& plan, const Input<T>& g, const Tensor& mean,
                   const Tensor& target, const MaybeTensor& logvar, double logvar_value,
                   Wanted wanted) {
  const auto& k = kernels<T>();
  const Input<T> m(mean, plan.shape), x(target, plan.shape);
  const Input<T> lv(logvar, static_cast<T>(logvar_value), plan.shape);
  return input_gradients<T, 4>(
      plan, {&g, &m, &x, &lv},
      Gradient{mean, wanted[0],
               [&](int64_t, int n, const auto& in, T* out) {
                 k.gaussian_dmean(n, out, in[0], in[1], in[2], in[3]);
               }},
      Gradient{target, wanted[1],
               [&](int64_t, int n, const auto& in, T* out) {  // dmean's with the two exchanged
                 k.gaussian_dmean(n, out, in[0], in[2], in[1], in[3]);
               }},
      Gradient{logvar ? *logvar : mean, wanted[2] && logvar,
               [&](int64_t, int n, const auto& in, T* out) {
                 k.gaussian_dlogvar(n, out, in[0], in[1], in[2], in[3]);
               }});
}

Gradients gaussian_log_likelihood_backward(const Tensor& grad, const Tensor& mean,
                                           const Tensor& target, const MaybeTensor& logvar,
                                           double logvar_value, int64_t event_dims,
                                           int64_t reduction, int64_t wanted) {
  const Problem p = gaussian_problem(mean, target, logvar, event_dims, reduction);
  const auto run = [&]<class T>(T) {
    return backward<T>(p.plan, Input<T>::gradient(grad, p.plan), mean, target, logvar, logvar_value,
                       Wanted(wanted));
  };
  return p.wide() ? run(double{}) : run(float{});
}

// ---- Value and gradients in one pass -----------------------------------------------------------

template <class T>
Gradients forward_backward(const EventPlan& plan, const Tensor& out, const Tensor& mean,
                           const Tensor& target, const MaybeTensor& logvar, double logvar_value,
                           Wanted wanted) {
  const T incoming = static_cast<T>(kExpectedGradient * plan.scale());
  const bool scalar = logvar && logvar->numel() == 1 && plan.numel != 1;
  const bool each = logvar && !scalar && wanted[2];
  const bool simple = wanted[0] && !wanted[1] && shape_of(mean) == plan.shape &&
                      (!each || shape_of(*logvar) == plan.shape);
  if (!simple) {
    forward<T>(plan, out, mean, target, logvar, logvar_value);
    return backward<T>(plan, Input<T>(incoming), mean, target, logvar, logvar_value, wanted);
  }
  const auto& k = kernels<T>();
  const Input<T> m(mean, plan.shape), x(target, plan.shape);
  const Input<T> lv(logvar, static_cast<T>(logvar_value), plan.shape);
  Tensor dmean = empty_like(mean, mean.scalar_type());
  const Tensor& like = logvar ? *logvar : mean;
  Tensor dlogvar = each || (scalar && wanted[2]) ? empty_like(like, like.scalar_type())
                                                 : empty({0}, like.scalar_type(), like);
  const Output<T> by_mean(dmean), by_logvar(each ? dlogvar : dmean);
  const Tensor* total = scalar && wanted[2] ? &dlogvar : nullptr;
  sum_everything<T, 2>(plan, {&out, total}, [&](int64_t start, int n, T(&terms)[2][kTile]) {
    Tiles<T, 3> in;
    in.load({&m, &x, &lv}, start, n);
    alignas(64) T buffer[kTile];
    T* values = by_mean.begin(start, n, buffer);
    T* by_lv = terms[1];
    if (each) by_lv = by_logvar.begin(start, n, terms[1]);
    k.gaussian_both(n, terms[0], values, by_lv, in[0], in[1], in[2], incoming);
    by_mean.finish(start, n, values, buffer);
    if (each) by_logvar.finish(start, n, by_lv, terms[1]);
  });
  return {dmean, empty({0}, target.scalar_type(), target), dlogvar};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gaussian_log_likelihood_with_gradients(
    const Tensor& mean, const Tensor& target, const MaybeTensor& logvar, double logvar_value,
    int64_t event_dims, int64_t reduction, int64_t wanted) {
  const Problem p = gaussian_problem(mean, target, logvar, event_dims, reduction);
  const Tensor out = p.plan.allocate(p.dtype, mean);
  const auto run = p.wide() ? forward_backward<double> : forward_backward<float>;
  const auto [dmean, dtarget, dlogvar] =
      run(p.plan, out, mean, target, logvar, logvar_value, Wanted(wanted));
  return {out, dmean, dtarget, dlogvar};
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("gaussian_log_likelihood", TORCH_BOX(&vae_ext::gaussian_log_likelihood));
  m.impl("gaussian_log_likelihood_backward", TORCH_BOX(&vae_ext::gaussian_log_likelihood_backward));
  m.impl("gaussian_log_likelihood_with_gradients",
         TORCH_BOX(&vae_ext::gaussian_log_likelihood_with_gradients));
}
