// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) and
// Box-Muller: noise as a pure function of (seed, stream, index), on any device, in any order.
#pragma once

#include "box_muller.h"

VAE_EXT_NAMESPACE_BEGIN

struct PhiloxBlock {
  uint32_t word[4];
};

// The product of the low 32 bits of a lane with a constant. Vector lanes have their own overload.
VAE_EXT_INLINE uint64_t multiply_low(uint64_t lane, uint32_t constant) {
#if defined(__CUDA_ARCH__)
  // Spelled out: of a product of 64 bits the compiler adds the upper parts, which are 0.
  uint64_t product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(static_cast<uint32_t>(lane)), "r"(constant));
  return product;
#else
  return (lane & 0xFFFFFFFFu) * constant;
#endif
}

// Counters in the low halves of 64-bit lanes, the high halves being left as they come: then a
// round's products are single instructions on vectors. A counter that is the same for all lanes may
// be a single number; it becomes lanes in the round that mixes it with some.
template <class C0, class C1, class C2, class C3>
struct PhiloxCounters {
  C0 c0;
  C1 c1;
  C2 c2;
  C3 c3;
};
template <class C0, class C1, class C2, class C3>
PhiloxCounters(C0, C1, C2, C3) -> PhiloxCounters<C0, C1, C2, C3>;

template <class Counters>
VAE_EXT_INLINE auto philox_round(const Counters& c, uint32_t key0, uint32_t key1) {
  const auto p0 = multiply_low(c.c0, 0xD2511F53u);
  const auto p1 = multiply_low(c.c2, 0xCD9E8D57u);
  return PhiloxCounters{(p1 >> 32) ^ c.c1 ^ key0, p1, (p0 >> 32) ^ c.c3 ^ key1, p0};
}

// Ten rounds. After three all counters are lanes, whichever of them were to begin with. By
// recursion, since their types change.
template <uint32_t kRound = 0, class Counters>
VAE_EXT_INLINE auto philox_rounds(const Counters& counters, uint32_t key0, uint32_t key1) {
  const auto next =
      philox_round(counters, key0 + kRound * 0x9E3779B9u, key1 + kRound * 0xBB67AE85u);
  if constexpr (kRound == 9) {
    return next;
  } else {
    return philox_rounds<kRound + 1>(next, key0, key1);
  }
}

VAE_EXT_INLINE PhiloxBlock philox4x32_10(uint32_t counter0, uint32_t counter1, uint32_t counter2,
                                         uint32_t counter3, uint32_t key0, uint32_t key1) {
  const auto words =
      philox_rounds(PhiloxCounters<uint64_t, uint64_t, uint64_t, uint64_t>{counter0, counter1,
                                                                           counter2, counter3},
                    key0, key1);
  return {{static_cast<uint32_t>(words.c0), static_cast<uint32_t>(words.c1),
           static_cast<uint32_t>(words.c2), static_cast<uint32_t>(words.c3)}};
}

// The words of elements 4 * block ... 4 * block + 3 of a stream.
VAE_EXT_INLINE PhiloxBlock philox_block(uint64_t seed, uint64_t stream, uint64_t block) {
  return philox4x32_10(static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32),
                       static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

VAE_EXT_NAMESPACE_END
