// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) and
// Box-Muller: noise as a pure function of (seed, stream, index), on any device, in any order.
#pragma once

#include "elementary.h"

VAE_EXT_NAMESPACE_BEGIN

struct PhiloxBlock {
  uint32_t word[4];
};

// The product of the low 32 bits of a lane with a constant. Vector lanes have their own overload.
VAE_EXT_INLINE uint64_t multiply_low(uint64_t lane, uint32_t constant) {
  return (lane & 0xFFFFFFFFu) * constant;
}

// Ten rounds on counters held in the low halves of 64-bit lanes, the high halves being left as they
// come: then a round's products are single instructions on vectors.
template <class Lane>
VAE_EXT_INLINE void philox_rounds(Lane& c0, Lane& c1, Lane& c2, Lane& c3, uint32_t key0,
                                  uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const Lane p0 = multiply_low(c0, 0xD2511F53u);
    const Lane p1 = multiply_low(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ key0;
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ key1;
    c3 = p0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

VAE_EXT_INLINE PhiloxBlock philox4x32_10(uint32_t counter0, uint32_t counter1, uint32_t counter2,
                                         uint32_t counter3, uint32_t key0, uint32_t key1) {
  uint64_t c0 = counter0, c1 = counter1, c2 = counter2, c3 = counter3;
  philox_rounds(c0, c1, c2, c3, key0, key1);
  return {{static_cast<uint32_t>(c0), static_cast<uint32_t>(c1), static_cast<uint32_t>(c2),
           static_cast<uint32_t>(c3)}};
}

// The words of elements 4 * block ... 4 * block + 3 of a stream.
VAE_EXT_INLINE PhiloxBlock philox_block(uint64_t seed, uint64_t stream, uint64_t block) {
  return philox4x32_10(static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32),
                       static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// Two independent standard normals from two words: the even and the odd element of a pair.
template <class T>
VAE_EXT_INLINE void box_muller(uint32_t word_even, uint32_t word_odd, T* even, T* odd) {
  T sine, cosine;
  const T radius = static_cast<T>(sqrt(T(2) * minus_log_uniform<T>(word_even)));
  sincos_turn(word_odd, &sine, &cosine);
  *even = radius * cosine;
  *odd = radius * sine;
}

VAE_EXT_NAMESPACE_END
