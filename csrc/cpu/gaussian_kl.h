// KL(q || N(0, I)), which another op needs beside its own.
#pragma once

#include "reduce.h"

namespace vae_ext {

// mu, logvar (kept between bounds) broadcastable to the plan's shape; the result as the plan says.
template <class T>
void kl_to_standard(const Tensor& kl, const EventPlan& plan, const Tensor& mu, const Tensor& logvar,
                    const Bounds& bounds = {}) {
  const Input<T> m(mu, plan.shape), lv = Input<T>(logvar, plan.shape).within(bounds);
  reduce_terms<T, 2>(plan, kl, {&m, &lv}, [](int n, const auto& in, T* terms) {
    kernels<T>().kl_standard(n, terms, in[0], in[1]);
  });
}

}  // namespace vae_ext
