// KL(q || N(0, I)) where another op needs it beside its own pass.
#pragma once

#include "bounds.cuh"

namespace vae_ext {

// mu, logvar (kept between bounds) broadcastable to the plan's shape; the result as the plan says.
Tensor kl_to_standard(const Launcher& launcher, const EventPlan& plan, ScalarType dtype,
                      const Tensor& mu, const Tensor& logvar, const Bounds& bounds = {});

}  // namespace vae_ext
