// The gradients of an op's inputs.
#pragma once

#include "reduce.h"

namespace vae_ext {

// compute(start, n, out) writes to those of out[N] that are not null the elements of gradients, in
// one pass over the elements. Each gradient comes in its input's shape, layout and dtype. That of
// an input that was broadcast is summed: in the kernel where the input is a single element, and
// after it elsewhere. What is not wanted is empty; an absent input has none.
template <class T, size_t N, class Compute>
std::array<MaybeTensor, N> input_gradients(const ReductionPlan& plan,
                                           const std::array<InputGradient, N>& of,
                                           Compute compute) {
  std::array<MaybeTensor, N> found;
  std::array<std::optional<Output<T>>, N> written;
  bool any = false;
  for (size_t i = 0; i < N; ++i) {
    if (of[i].input == nullptr) continue;
    if (of[i] && of[i].input->numel() == 1 && !of[i].is_full(plan)) {
      found[i] = empty(shape_of(*of[i].input), of[i].input->scalar_type(), *of[i].input);
      const ReductionPlan total(plan.shape, plan.event_dims, static_cast<int64_t>(Reduction::kSum));
      reduce_terms<T>(total, *found[i], [&](int64_t start, int n, T* values) {
        T* out[N] = {};
        out[i] = values;
        compute(start, n, out);
      });
      continue;
    }
    found[i] = allocate_gradient(plan, of[i]);
    if (of[i]) written[i].emplace(*found[i]);
    any = any || of[i];
  }
  if (any) {
    parallel_tiles(plan.numel, [&](int64_t start, int n) {
      alignas(64) T buffer[N][kTile];
      T* out[N] = {};
      for (size_t i = 0; i < N; ++i) {
        if (written[i]) out[i] = written[i]->begin(start, n, buffer[i]);
      }
      compute(start, n, out);
      for (size_t i = 0; i < N; ++i) {
        if (written[i]) written[i]->finish(start, n, out[i], buffer[i]);
      }
    });
  }
  for (size_t i = 0; i < N; ++i) {
    if (written[i]) found[i] = fit_gradient(plan, of[i], *found[i]);
  }
  return found;
}

}  // namespace vae_ext
