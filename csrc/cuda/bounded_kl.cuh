// KL(q || N(0, I)) of a latent, where it is not computed beside a sample.
#pragma once

#include "bounds.cuh"

namespace vae_ext {

Tensor kl_to_standard(const LatentArguments& a);

}  // namespace vae_ext
