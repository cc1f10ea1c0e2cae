// The noise of a sampling op: a tensor, or the stream of a seed.
#pragma once

#include "../math/philox.h"
#include "groups.cuh"

namespace vae_ext {

struct NoiseSource {
  Operand given;
  bool is_given = false;
  const int64_t* seed_tensor = nullptr;  // on the device, where only the kernel reads it
  uint64_t seed = 0;
  uint64_t stream = 0;

  VAE_EXT_DEVICE uint64_t key() const {
    return seed_tensor ? static_cast<uint64_t>(*seed_tensor) : seed;
  }

  // Elements of the stream from `first` on: a multiple of 4, or a single one.
  template <class V>
  VAE_EXT_DEVICE void draw(int64_t first, typename V::T (&eps)[V::kWidth]) const {
    const uint64_t k = key();
    if constexpr (V::kWidth == 1) {
      const PhiloxBlock b = philox_block(k, stream, static_cast<uint64_t>(first) / 4);
      const bool second = (first & 2) != 0;
      typename V::T even, odd;
      box_muller(second ? b.word[2] : b.word[0], second ? b.word[3] : b.word[1], &even, &odd);
      eps[0] = (first & 1) != 0 ? odd : even;
    } else {
#pragma unroll
      for (int j = 0; j < V::kWidth; j += 4) {
        const PhiloxBlock b = philox_block(k, stream, static_cast<uint64_t>(first + j) / 4);
        box_muller(b.word[0], b.word[1], &eps[j], &eps[j + 1]);
        box_muller(b.word[2], b.word[3], &eps[j + 2], &eps[j + 3]);
      }
    }
  }
};

inline NoiseSource noise_source(const NoiseArguments& from) {
  NoiseSource source;
  source.is_given = from.noise.has_value();
  source.stream = static_cast<uint64_t>(from.stream);
  source.seed = static_cast<uint64_t>(from.seed_value);
  if (from.seed && !from.noise) {
    source.seed_tensor = static_cast<const int64_t*>(from.seed->const_data_ptr());
  }
  return source;
}

}  // namespace vae_ext
