// The storage types that a tensor may have. Bool and uint8 are Bernoulli targets only.
#pragma once

namespace vae_ext {

enum class Storage { kFloat, kDouble, kHalf, kBFloat16, kByte };

}  // namespace vae_ext
