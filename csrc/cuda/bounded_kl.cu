// KL(q || N(0, I)) of a latent: its scale in any form, or logvar kept between bounds. Words moved
// per element: 2, elementwise 3.
#include "../math/divergences.h"
#include "bounded_kl.cuh"
#include "reduce.cuh"

namespace vae_ext {
namespace {

struct Standard {  // mu, scale
  static constexpr int kInputs = 2, kOutputs = 1;
  static constexpr bool kCostly = false;
};

template <int kSums_>
struct BoundedKL : Map<Standard, kSums_> {
  KernelBounds bounds;
  int form = 0;

  template <class V, ExpRange kRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums& sums) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(this->in[0], start), scale_bits = fetch<V>(this->in[1], start);
    T m[V::kWidth], s[V::kWidth], kl[V::kWidth];
    values<V>(this->in[0], mu_bits, start, m);
    values<V>(this->in[1], scale_bits, start, s);
    bound(bounds, s);
    if (kRange == ExpRange::kBounded && !bounded(s)) return false;
    with_form(form, [&](auto f) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        kl[j] = StandardGaussianKL::value<kRange>(f, m[j], s[j]);
      }
    });
    if constexpr (kSums_ == 0) store<V>(this->out[0], start, kl);
    if constexpr (kSums_ > 0) sums.add(0, kl);
    return true;
  }
};

}  // namespace

Tensor kl_to_standard(const LatentArguments& a) {
  const ReductionPlan& plan = a.kl.plan;
  const Frame frame = frame_of(plan, a.mu, a.kl.is_double());
  return reduced<BoundedKL>(Launcher(a.mu), plan, a.kl.dtype, a.mu, [&](auto& body, int width) {
    body.bounds = a.bounds;
    body.form = static_cast<int>(a.form);
    body.in[0] = Operand(a.mu, frame, width);
    body.in[1] = Operand(a.scale, frame, width);
  });
}

}  // namespace vae_ext
