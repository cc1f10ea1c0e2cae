// The noise of a sampling op: a tensor, or the stream of a seed.
#pragma once

#include "../math/philox.h"
#include "groups.cuh"

namespace vae_ext {

struct NoiseSource {
  Operand given;
  bool is_given = false;
  bool placed = false;                   // whether the stream's elements are others than the first:
  Operand place;                         // these, as a tensor's would lie in memory,
  int64_t offset = 0;                    // from here on
  int64_t between_samples = 0;           // from an element to that of the next sample
  const int64_t* seed_tensor = nullptr;  // on the device, where only the kernel reads it
  uint64_t seed = 0;
  uint64_t stream = 0;

  VAE_EXT_DEVICE uint64_t key() const {
    return seed_tensor ? static_cast<uint64_t>(*seed_tensor) : seed;
  }

  // Whether groups start where the stream's blocks do, and lie side by side in it. The kernel's
  // elements are those of one sample, of so many.
  bool fits(int64_t samples, int width) const {
    if (is_given || width == 1) return true;
    const bool in_groups = !placed || (!place.strided() && offset % width == 0);
    return in_groups && (samples <= 1 || between_samples % width == 0);
  }

  // The element of the stream for element `start` of a sample, the first: of each further one it
  // is between_samples on.
  template <class V>
  VAE_EXT_DEVICE int64_t place_of(int64_t start) const {
    return placed ? offset + offset_of<V>(place, start) : start;
  }

  // Elements of the stream from `first` on: a group, or a single one.
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
      // Of whole groups, whose blocks differ in the last bits alone.
      const uint64_t block = static_cast<uint64_t>(first) / V::kWidth * (V::kWidth / 4);
#pragma unroll
      for (int j = 0; j < V::kWidth; j += 4) {
        const PhiloxBlock b = philox_block(k, stream, block | (j / 4));
        box_muller(b.word[0], b.word[1], &eps[j], &eps[j + 1]);
        box_muller(b.word[2], b.word[3], &eps[j + 2], &eps[j + 3]);
      }
    }
  }
};

// For a kernel over `shape`, that of z or of one sample, in groups.
inline NoiseSource noise_source(const NoiseArguments& from, const Shape& shape, bool of_sample,
                                int width) {
  NoiseSource source;
  source.between_samples = numel_of(shape);
  if (from.places && !from.noise && source.between_samples > 0) {
    const Places places(*from.places, shape, of_sample);
    source.placed = true;
    source.place = Operand(places.layout, width, true);
    source.offset = places.offset;
    if (of_sample) source.between_samples = places.between_samples;
  }
  source.is_given = from.noise.has_value();
  source.stream = static_cast<uint64_t>(from.stream);
  source.seed = static_cast<uint64_t>(from.seed_value);
  if (from.seed && !from.noise) {
    source.seed_tensor = static_cast<const int64_t*>(from.seed->const_data_ptr());
  }
  return source;
}

}  // namespace vae_ext
