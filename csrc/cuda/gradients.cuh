// The gradients of an op's inputs, in one pass over the elements, alone or with sums.
#pragma once

#include "reduce.cuh"

namespace vae_ext {

// Where a body's sums over all elements go, and what each is multiplied by.
template <size_t kSums>
struct Totals {
  std::array<Tensor, kSums> out;
  std::array<double, kSums> scale;
};

// fill(body, width) gives a Body its inputs. Its outputs are sums, which go to `totals`, and then
// the gradients, each in its input's shape, layout and dtype. The gradient of an input that was
// broadcast is summed after the pass. What is not wanted is empty; an absent input has none.
template <class Body, size_t N, class Fill>
std::array<MaybeTensor, N> input_gradients(const Launcher& launcher, const ReductionPlan& plan,
                                           const Frame& frame, bool is_double, const Tensor& lead,
                                           const std::array<InputGradient, N>& of, Fill fill,
                                           const Totals<Body::kSums>& totals = {}) {
  constexpr int kSums = Body::kSums;
  std::array<MaybeTensor, N> out;
  bool any = false;
  for (size_t i = 0; i < N; ++i) {
    if (of[i].input) out[i] = allocate_gradient(plan, of[i]);
    any = any || of[i];
  }
  const auto make = [&](int width) {
    Body body;
    fill(body, width);
    for (size_t i = 0; i < N; ++i) {
      if (of[i]) body.set(kSums + static_cast<int>(i), Operand(*out[i], frame, width));
    }
    return body;
  };
  if constexpr (kSums > 0) {
    launch_sums<false>(launcher, 1, plan.numel, lead.scalar_type(), is_double, totals.out,
                       totals.scale, make);
  } else if (any) {
    launch_elementwise(launcher, plan.numel, lead.scalar_type(), is_double, make);
  }
  for (size_t i = 0; i < N; ++i) {
    if (of[i]) out[i] = fit_gradient(plan, of[i], *out[i]);
  }
  return out;
}

}  // namespace vae_ext
