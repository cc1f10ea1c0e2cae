// Bernoulli log-likelihood from logits, forward and backward.
#include <torch/csrc/stable/library.h>

#include <atomic>

#include "reduce.h"

namespace vae_ext {
namespace {

// Looks at the targets while they are in the cache, and refuses those that are no probabilities:
// bytes of an image, which nobody has divided by 255, would give a likelihood like any other.
template <class T>
class Probabilities {
 public:
  void see(int n, const T* targets) {
    if (!kernels<T>().any_no_probability(n, targets)) return;
    for (int i = 0; i < n; ++i) {
      if (!within(targets[i])) one_.store(targets[i], std::memory_order_relaxed);
    }
  }
  void check() const {
    STD_TORCH_CHECK(within(one_.load()), "target had the value ", one_.load(),
                    ", expected values in [0, 1]");
  }

 private:
  static bool within(T target) { return !(target < T(0) || target > T(1)); }

  std::atomic<T> one_ = T(0);  // the last seen that is not within, if any
};

template <class T>
void forward(const EventPlan& plan, const Tensor& out, const Tensor& logits, const Tensor& target) {
  const auto& k = kernels<T>();
  const Input<T> x(logits, plan.shape), t(target, plan.shape);
  Probabilities<T> probabilities;
  reduce_terms<T, 2>(plan, out, {&x, &t}, [&](int n, const auto& in, T* terms) {
    probabilities.see(n, in[1]);
    k.bernoulli(n, terms, in[0], in[1]);
  });
  probabilities.check();
}

Tensor bernoulli_log_likelihood(const Tensor& logits, const Tensor& target, int64_t event_dims,
                                int64_t reduction) {
  const Problem p = bernoulli_problem(logits, target, event_dims, reduction);
  Tensor out = p.plan.allocate(p.dtype, logits);
  const auto run = p.wide() ? forward<double> : forward<float>;
  run(p.plan, out, logits, target);
  return out;
}

using Gradients = std::tuple<Tensor, Tensor>;

template <class T>
Gradients backward(const EventPlan& plan, const Input<T>& g, const Tensor& logits,
                   const Tensor& target, Wanted wanted) {
  const auto& k = kernels<T>();
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
  const Problem p = bernoulli_problem(logits, target, event_dims, reduction);
  const auto run = [&]<class T>(T) {
    return backward<T>(p.plan, Input<T>::gradient(grad, p.plan), logits, target, Wanted(wanted));
  };
  return p.wide() ? run(double{}) : run(float{});
}

// ---- Value and gradients in one pass -----------------------------------------------------------

template <class T>
Gradients forward_backward(const EventPlan& plan, const Tensor& out, const Tensor& logits,
                           const Tensor& target, Wanted wanted) {
  const T incoming = static_cast<T>(kExpectedGradient * plan.scale());
  if (!wanted[0] || wanted[1] || shape_of(logits) != plan.shape) {
    forward<T>(plan, out, logits, target);
    return backward<T>(plan, Input<T>(incoming), logits, target, wanted);
  }
  const auto& k = kernels<T>();
  const Input<T> x(logits, plan.shape), t(target, plan.shape);
  Tensor dlogits = empty_like(logits, logits.scalar_type());
  const Output<T> gradient(dlogits);
  Probabilities<T> probabilities;
  sum_everything<T, 1>(plan, {&out}, [&](int64_t start, int n, T(&terms)[1][kTile]) {
    Tiles<T, 2> in;
    in.load({&x, &t}, start, n);
    probabilities.see(n, in[1]);
    alignas(64) T buffer[kTile];
    T* values = gradient.begin(start, n, buffer);
    k.bernoulli_both(n, terms[0], values, in[0], in[1], incoming);
    gradient.finish(start, n, values, buffer);
  });
  probabilities.check();
  return {dlogits, empty({0}, target.scalar_type(), target)};
}

std::tuple<Tensor, Tensor, Tensor> bernoulli_log_likelihood_with_gradients(const Tensor& logits,
                                                                           const Tensor& target,
                                                                           int64_t event_dims,
                                                                           int64_t reduction,
                                                                           int64_t wanted) {
  const Problem p = bernoulli_problem(logits, target, event_dims, reduction);
  const Tensor out = p.plan.allocate(p.dtype, logits);
  const auto run = p.wide() ? forward_backward<double> : forward_backward<float>;
  const auto [dlogits, dtarget] = run(p.plan, out, logits, target, Wanted(wanted));
  return {out, dlogits, dtarget};
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("bernoulli_log_likelihood", TORCH_BOX(&vae_ext::bernoulli_log_likelihood));
  m.impl("bernoulli_log_likelihood_backward",
         TORCH_BOX(&vae_ext::bernoulli_log_likelihood_backward));
  m.impl("bernoulli_log_likelihood_with_gradients",
         TORCH_BOX(&vae_ext::bernoulli_log_likelihood_with_gradients));
}
