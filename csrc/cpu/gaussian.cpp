// Gaussian log-likelihood with a fixed, a scalar or a per-element log-variance, forward and
// backward.
#include <torch/csrc/stable/library.h>

#include "reduce.h"

namespace vae_ext {
namespace {

using MaybeTensor = std::optional<Tensor>;

struct Problem {
  EventPlan plan;
  ScalarType dtype;

  // mean, target [...], broadcast with each other; logvar broadcastable to them, or absent.
  Problem(const Tensor& mean, const Tensor& target, const MaybeTensor& logvar, int64_t event_dims,
          int64_t reduction)
      : plan(broadcast(broadcast(shape_of(mean), shape_of(target)), logvar), event_dims, reduction),
        dtype(promote(promote(mean.scalar_type(), target.scalar_type()), logvar)) {}
};

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
  const Problem p(mean, target, logvar, event_dims, reduction);
  Tensor out = p.plan.allocate(p.dtype, mean);
  const auto run = p.dtype == ScalarType::Double ? forward<double> : forward<float>;
  run(p.plan, out, mean, target, logvar, logvar_value);
  return out;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

template <class T>
Gradients backward(const EventPlan& plan, const Tensor& grad, const Tensor& mean,
                   const Tensor& target, const MaybeTensor& logvar, double logvar_value,
                   Wanted wanted) {
  const auto& k = kernels<T>();
  const Input<T> g = Input<T>::gradient(grad, plan);
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
  const Problem p(mean, target, logvar, event_dims, reduction);
  const auto run = p.dtype == ScalarType::Double ? backward<double> : backward<float>;
  return run(p.plan, grad, mean, target, logvar, logvar_value, Wanted(wanted));
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("gaussian_log_likelihood", TORCH_BOX(&vae_ext::gaussian_log_likelihood));
  m.impl("gaussian_log_likelihood_backward", TORCH_BOX(&vae_ext::gaussian_log_likelihood_backward));
}
