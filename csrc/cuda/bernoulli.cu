// Bernoulli log-likelihood from logits, forward and backward. Words moved per element: forward 2
// (elementwise one more), backward 2 read and 1 written; value and gradient in one pass 2 and 1.
#include <torch/csrc/stable/library.h>

#include "../formulas.h"
#include "gradients.cuh"

namespace vae_ext {
namespace {

// Without a word to the host a kernel cannot refuse a target that is no probability: it becomes
// NaN, and so do the value and the gradients.
template <class T>
VAE_EXT_DEVICE T checked(T target) {
  return no_probability(target) ? T(NAN) : target;
}

struct Value {  // logits, target
  static constexpr int kInputs = 2, kOutputs = 1;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[2], T (&out)[1]) {
    out[0] = bernoulli(in[0], checked(in[1]));
  }
};

struct Derivatives {  // incoming, logits, target
  static constexpr int kInputs = 3, kOutputs = 2;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[3], T (&out)[2]) {
    out[0] = bernoulli_dlogit(in[0], in[1], checked(in[2]));
    out[1] = bernoulli_dtarget(in[0], in[1]);
  }
};

struct Both {  // incoming, logits, target
  static constexpr int kInputs = 3, kOutputs = 3;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[3], T (&out)[3]) {
    const T target = checked(in[2]);
    out[0] = bernoulli(in[1], target);
    out[1] = bernoulli_dlogit(in[0], in[1], target);
    out[2] = bernoulli_dtarget(in[0], in[1]);
  }
};

template <int kSums>
using ValueBody = Map<Value, kSums>;

Tensor bernoulli_log_likelihood(const Tensor& logits, const Tensor& target, int64_t event_dims,
                                int64_t reduction) {
  const Problem p = bernoulli_problem(logits, target, event_dims, reduction);
  const Launcher launcher(logits);
  return reduced<ValueBody>(launcher, p.plan, p.dtype, logits, [&](auto& body, int width) {
    body.in[0] = Operand(logits, p.plan.shape, width);
    body.in[1] = Operand(target, p.plan.shape, width);
  });
}

std::tuple<Tensor, Tensor> bernoulli_log_likelihood_backward(const Tensor& grad,
                                                             const Tensor& logits,
                                                             const Tensor& target,
                                                             int64_t event_dims, int64_t reduction,
                                                             int64_t wanted_bits) {
  const Problem p = bernoulli_problem(logits, target, event_dims, reduction);
  const Wanted wanted(wanted_bits);
  const Launcher launcher(logits);
  const auto out = gradients<Map<Derivatives>, 2>(
      launcher, p.plan, p.wide(), logits,
      {WantedGradient(logits, wanted[0]), WantedGradient(target, wanted[1])},
      [&](auto& body, int width) {
        body.in[0] = Operand::gradient(grad, p.plan, width);
        body.in[1] = Operand(logits, p.plan.shape, width);
        body.in[2] = Operand(target, p.plan.shape, width);
      });
  return {out[0], out[1]};
}

std::tuple<Tensor, Tensor, Tensor> bernoulli_log_likelihood_with_gradients(const Tensor& logits,
                                                                           const Tensor& target,
                                                                           int64_t event_dims,
                                                                           int64_t reduction,
                                                                           int64_t wanted_bits) {
  const Problem p = bernoulli_problem(logits, target, event_dims, reduction);
  const Wanted wanted(wanted_bits);
  const Launcher launcher(logits);
  const Tensor value = p.plan.allocate(p.dtype, logits);
  const auto out = gradients<Map<Both, 1>, 2>(
      launcher, p.plan, p.wide(), logits,
      {WantedGradient(logits, wanted[0]), WantedGradient(target, wanted[1])},
      [&](auto& body, int width) {
        body.in[0] = Operand::constant(kExpectedGradient * p.plan.scale());
        body.in[1] = Operand(logits, p.plan.shape, width);
        body.in[2] = Operand(target, p.plan.shape, width);
      },
      {{value}, {p.plan.scale()}});
  return {value, out[0], out[1]};
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  m.impl("bernoulli_log_likelihood", TORCH_BOX(&vae_ext::bernoulli_log_likelihood));
  m.impl("bernoulli_log_likelihood_backward",
         TORCH_BOX(&vae_ext::bernoulli_log_likelihood_backward));
  m.impl("bernoulli_log_likelihood_with_gradients",
         TORCH_BOX(&vae_ext::bernoulli_log_likelihood_with_gradients));
}
