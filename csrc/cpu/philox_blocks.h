// Philox blocks in bulk: vectors of 64-bit lanes where the instruction set has a 32 x 32 -> 64 bit
// product of them. GCC finds that product in no loop (it takes the full 64-bit one, which costs up
// to three times as much), hence the builtins; the rounds are those of philox.h.
#pragma once

#include "../philox.h"

VAE_EXT_NAMESPACE_BEGIN

#if defined(VAE_EXT_AVX512)
using PhiloxLanes = unsigned long long __attribute__((vector_size(64)));
using PhiloxWords = uint32_t __attribute__((vector_size(32)));
VAE_EXT_INLINE PhiloxLanes multiply_low(PhiloxLanes lanes, uint32_t constant) {
  using V = int __attribute__((vector_size(64)));
  using Product = long long __attribute__((vector_size(64)));
  const PhiloxLanes factor = PhiloxLanes{} + constant;
  return (PhiloxLanes)__builtin_ia32_pmuludq512_mask((V)lanes, (V)factor, Product{}, 0xFF);
}
#elif defined(VAE_EXT_AVX2)
using PhiloxLanes = unsigned long long __attribute__((vector_size(32)));
using PhiloxWords = uint32_t __attribute__((vector_size(16)));
VAE_EXT_INLINE PhiloxLanes multiply_low(PhiloxLanes lanes, uint32_t constant) {
  using V = int __attribute__((vector_size(32)));
  const PhiloxLanes factor = PhiloxLanes{} + constant;
  return (PhiloxLanes)__builtin_ia32_pmuludq256((V)lanes, (V)factor);
}
#endif

#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)

// Several vectors as one lane type, so that a round of one does not wait for its product while the
// others have work.
struct PhiloxGroup {
  static constexpr int kVectors = 4;
  static constexpr int kLanes = sizeof(PhiloxLanes) / sizeof(uint64_t);
  PhiloxLanes v[kVectors];

  template <class F>
  static VAE_EXT_INLINE PhiloxGroup make(F f) {
    return {{f(0), f(1), f(2), f(3)}};
  }
  VAE_EXT_INLINE PhiloxGroup operator>>(int n) const {
    return make([&](int i) { return v[i] >> n; });
  }
  VAE_EXT_INLINE PhiloxGroup operator^(const PhiloxGroup& x) const {
    return make([&](int i) { return v[i] ^ x.v[i]; });
  }
  VAE_EXT_INLINE PhiloxGroup operator^(uint32_t x) const {
    return make([&](int i) { return v[i] ^ (PhiloxLanes{} + x); });
  }
  VAE_EXT_INLINE void store_low(uint32_t* out) const {
    for (int i = 0; i < kVectors; ++i) {
      const PhiloxWords low = __builtin_convertvector(v[i], PhiloxWords);
      __builtin_memcpy(out + i * kLanes, &low, sizeof low);
    }
  }
};

VAE_EXT_INLINE PhiloxGroup multiply_low(const PhiloxGroup& lanes, uint32_t constant) {
  return PhiloxGroup::make([&](int i) { return multiply_low(lanes.v[i], constant); });
}

// Blocks come in groups of this many; a caller leaves room for whole groups.
constexpr int kPhiloxGroup = PhiloxGroup::kLanes * PhiloxGroup::kVectors;

// Words 0 to 3 of blocks first ... first + n - 1, each row n rounded up to whole groups.
template <int kRow>
inline void philox_blocks(int n, uint64_t seed, uint64_t stream, uint64_t first,
                          uint32_t (&word)[4][kRow]) {
  static_assert(kRow % kPhiloxGroup == 0);
  PhiloxLanes iota;
  for (int i = 0; i < PhiloxGroup::kLanes; ++i) iota[i] = static_cast<uint64_t>(i);
  for (int b = 0; b < n; b += kPhiloxGroup) {
    PhiloxGroup c0 = PhiloxGroup::make(
        [&](int i) { return iota + (first + static_cast<uint64_t>(b + i * PhiloxGroup::kLanes)); });
    PhiloxGroup c1 = c0 >> 32;
    PhiloxGroup c2 =
        PhiloxGroup::make([&](int) { return PhiloxLanes{} + static_cast<uint32_t>(stream); });
    PhiloxGroup c3 = PhiloxGroup::make([&](int) { return PhiloxLanes{} + (stream >> 32); });
    philox_rounds(c0, c1, c2, c3, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    c0.store_low(&word[0][b]);
    c1.store_low(&word[1][b]);
    c2.store_low(&word[2][b]);
    c3.store_low(&word[3][b]);
  }
}

#else

constexpr int kPhiloxGroup = 1;

template <int kRow>
inline void philox_blocks(int n, uint64_t seed, uint64_t stream, uint64_t first,
                          uint32_t (&word)[4][kRow]) {
  for (int b = 0; b < n; ++b) {
    const PhiloxBlock block = philox_block(seed, stream, first + static_cast<uint64_t>(b));
    for (int j = 0; j < 4; ++j) word[j][b] = block.word[j];
  }
}

#endif

VAE_EXT_NAMESPACE_END
