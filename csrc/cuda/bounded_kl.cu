// KL(q || N(0, I)) of a latent: its scale in any form, or logvar kept between bounds. Words moved
// per element: 2, elementwise 3.
#include "../math/divergences.h"
#include "bounded_kl.cuh"
#include "reduce.cuh"

namespace vae_ext {
namespace {

struct Standard {  // mu, scale
  static constexpr int kInputs = 2, kOutputs = 1;
};

template <int kSums_>
struct BoundedKL : Map<Standard, kSums_> {
  Bounds bounds;
  int form = 0;

  template <class V, class Terms>
  VAE_EXT_DEVICE void run(const Span& span, Terms& terms) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(this->in[0], span), logvar_bits = fetch<V>(this->in[1], span);
    T m[V::kWidth], lv[V::kWidth], kl[V::kWidth];
    values<V>(this->in[0], mu_bits, span, m);
    values<V>(this->in[1], logvar_bits, span, lv);
    bound(bounds, lv);
    with_form(form, [&](auto f) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        kl[j] = StandardGaussianKL::value<ExpRange::kFull>(f, m[j], lv[j]);
      }
    });
    if constexpr (kSums_ > 0) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) terms[0][j] = kl[j];
    }
    if constexpr (kSums_ == 0) store<V>(this->out[0], span, kl);
  }
};

}  // namespace

Tensor kl_to_standard(const LatentArguments& a) {
  const ReductionPlan& plan = a.kl.plan;
  return reduced<BoundedKL>(Launcher(a.mu), plan, a.kl.dtype, a.mu, [&](auto& body, int width) {
    body.bounds = a.bounds;
    body.form = static_cast<int>(a.form);
    body.in[0] = Operand(a.mu, plan.shape, width);
    body.in[1] = Operand(a.scale, plan.shape, width);
  });
}

}  // namespace vae_ext
