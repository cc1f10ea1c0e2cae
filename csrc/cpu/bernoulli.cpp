// Bernoulli log-likelihood from logits, forward and backward.
#include <torch/csrc/stable/library.h>

#include "reduce.h"

namespace vae_ext {
namespace {

struct Problem {
  EventPlan plan;
  ScalarType dtype;

  // logits, target [...], broadcast with each other. A bool or uint8 target follows the logits'
  // dtype.
  Problem(const Tensor& logits, const Tensor& target, int64_t event_dims, int64_t reduction)
      : plan(broadcast(shape_of(logits), shape_of(target)), event_dims, reduction),
        dtype(logits.scalar_type()) {
    if (storage_of(target.scalar_type()) != Storage::kByte) {
      dtype = promote(dtype, target.scalar_type());
    }
  }
};

template <class T>
void forward(const EventPlan& plan, const Tensor& out, const Tensor& logits, const Tensor& target) {
  const auto& k = kernels<T>();
  const Input<T> x(logits, plan.shape), t(target, plan.shape);
  reduce_terms<T, 2>(plan, out, {&x, &t},
                     [&](int n, const auto& in, T* terms) { k.bernoulli(n, terms, in[0], in[1]); });
}

Tensor bernoulli_log_likelihood(const Tensor& logits, const Tensor& target, int64_t event_dims,
                                int64_t reduction) {
  const Problem p(logits, target, event_dims, reduction);
  Tensor out = p.plan.allocate(p.dtype, logits);
  const auto run = p.dtype == ScalarType::Double ? forward<double> : forward<float>;
  run(p.plan, out, logits, target);
  return out;
}

using Gradients = std::tuple<Tensor, Tensor>;

template <class T>
Gradients backward(const EventPlan& plan, const Tensor& grad, const Tensor& logits,
                   const Tensor& target, Wanted wanted) {
  const auto& k = kernels<T>();
  const Input<T> g = Input<T>::gradient(grad, plan);
  const Input<T> x(logits, plan.shape), t(target, plan.shape);
  return input_gradients<T, 3>(
      plan, {&g, &x, &t},
      Gradient{logits, wanted[0],
               [&](int64_t, int n, const auto& in, T* out) {
                 k.bernoulli_dlogit(n, out, in[0], in[1], in[2]);
               }},
      Gradient{target, wanted[1], [&](int64_t, int n, const auto& in, T* out) {
                 k.bernoulli_dtarget(n, out, in[0], in[1]);
               }});
}

Gradients bernoulli_log_likelihood_backward(const Tensor& grad, const Tensor& logits,
                                            const Tensor& target, int64_t event_dims,
                                            int64_t reduction, int64_t wanted) {
  const Problem p(logits, target, event_dims, reduction);
  const auto run = p.dtype == ScalarType::Double ? backward<double> : backward<float>;
  return run(p.plan, grad, logits, target, Wanted(wanted));
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("bernoulli_log_likelihood", TORCH_BOX(&vae_ext::bernoulli_log_likelihood));
  m.impl("bernoulli_log_likelihood_backward",
         TORCH_BOX(&vae_ext::bernoulli_log_likelihood_backward));
}
