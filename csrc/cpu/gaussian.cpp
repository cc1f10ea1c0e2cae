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
  reduce_terms<T>(plan, out, [&](int64_t start, int n, T* terms) {
    alignas(64) T b[3][kTile];
    k.gaussian(n, terms, m.tile(start, n, b[0]), x.tile(start, n, b[1]), lv.tile(start, n, b[2]));
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
                   const std::vector<bool>& wanted) {
  const auto& k = kernels<T>();
  const Input<T> g = Input<T>::gradient(grad, plan);
  const Input<T> m(mean, plan.shape), x(target, plan.shape);
  const Input<T> lv(logvar, static_cast<T>(logvar_value), plan.shape);
  return input_gradients<T>(
      plan,
      Gradient{mean, wanted[0],
               [&](int64_t start, int n, T* out) {
                 alignas(64) T b[4][kTile];
                 k.gaussian_dmean(n, out, g.tile(start, n, b[0]), m.tile(start, n, b[1]),
                                  x.tile(start, n, b[2]), lv.tile(start, n, b[3]));
               }},
      Gradient{target, wanted[1],
               [&](int64_t start, int n, T* out) {  // the mean's with the two exchanged
                 alignas(64) T b[4][kTile];
                 k.gaussian_dmean(n, out, g.tile(start, n, b[0]), x.tile(start, n, b[1]),
                                  m.tile(start, n, b[2]), lv.tile(start, n, b[3]));
               }},
      Gradient{logvar ? *logvar : mean, wanted[2] && logvar, [&](int64_t start, int n, T* out) {
                 alignas(64) T b[4][kTile];
                 k.gaussian_dlogvar(n, out, g.tile(start, n, b[0]), m.tile(start, n, b[1]),
                                    x.tile(start, n, b[2]), lv.tile(start, n, b[3]));
               }});
}

Gradients gaussian_log_likelihood_backward(const Tensor& grad, const Tensor& mean,
                                           const Tensor& target, const MaybeTensor& logvar,
                                           double logvar_value, int64_t event_dims,
                                           int64_t reduction, const std::vector<bool>& wanted) {
  const Problem p(mean, target, logvar, event_dims, reduction);
  const auto run = p.dtype == ScalarType::Double ? backward<double> : backward<float>;
  return run(p.plan, grad, mean, target, logvar, logvar_value, wanted);
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("gaussian_log_likelihood", TORCH_BOX(&vae_ext::gaussian_log_likelihood));
  m.impl("gaussian_log_likelihood_backward",
         TORCH_BOX(&vae_ext::gaussian_log_likelihood_backward));
}
