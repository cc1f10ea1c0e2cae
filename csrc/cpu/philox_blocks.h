// Philox blocks in bulk: vectors of 64-bit lanes where the instruction set has a 32 x 32 -> 64 bit
// product of them. GCC does not find that product (it takes the full 64-bit one, which costs up to
// three times as much), hence the builtins; clang does. The rounds are those of philox.h.
#pragma once

#include "../math/philox.h"

VAE_EXT_NAMESPACE_BEGIN

#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)
#if defined(VAE_EXT_AVX512)
#define VAE_EXT_VECTOR __attribute__((vector_size(64)))
#else
#define VAE_EXT_VECTOR __attribute__((vector_size(32)))
#endif
using PhiloxLanes = unsigned long long VAE_EXT_VECTOR;
using PhiloxWords = uint32_t VAE_EXT_VECTOR;

VAE_EXT_INLINE PhiloxLanes multiply_low(PhiloxLanes lanes, uint32_t constant) {
  const PhiloxLanes factor = PhiloxLanes{} + constant;
#if defined(__clang__)
  return (lanes & 0xffffffffu) * factor;
#else
  using V = int VAE_EXT_VECTOR;
#if defined(VAE_EXT_AVX512)
  using Product = long long VAE_EXT_VECTOR;
  return (PhiloxLanes)__builtin_ia32_pmuludq512_mask((V)lanes, (V)factor, Product{}, 0xFF);
#else
  return (PhiloxLanes)__builtin_ia32_pmuludq256((V)lanes, (V)factor);
#endif
#endif
}

// Every second word of two vectors.
#if defined(__clang__)
#define VAE_EXT_CHOOSE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VAE_EXT_CHOOSE(a, b, ...) __builtin_shuffle(a, b, PhiloxWords{__VA_ARGS__})
#endif
VAE_EXT_INLINE PhiloxWords even_words(PhiloxWords a, PhiloxWords b) {
#if defined(VAE_EXT_AVX512)
  return VAE_EXT_CHOOSE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#else
  return VAE_EXT_CHOOSE(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#endif
}
#undef VAE_EXT_CHOOSE
#undef VAE_EXT_VECTOR
#endif

#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)

// Two vectors as one lane type, so that a round of one does not wait for its product while the
// other has work; four would not stay in the registers of AVX2.
struct PhiloxGroup {
  static constexpr int kVectors = 2;
  static constexpr int kLanes = sizeof(PhiloxLanes) / sizeof(uint64_t);
  PhiloxLanes v0, v1;

  VAE_EXT_INLINE PhiloxGroup(PhiloxLanes first, PhiloxLanes second) : v0(first), v1(second) {}
#if !defined( \
    __clang__)  // What g++ copies as a whole goes through memory, in pieces of eight bytes.
  VAE_EXT_INLINE PhiloxGroup(const PhiloxGroup& x) : v0(x.v0), v1(x.v1) {}
#endif

  VAE_EXT_INLINE PhiloxGroup operator>>(int n) const { return {v0 >> n, v1 >> n}; }
  VAE_EXT_INLINE PhiloxGroup operator^(const PhiloxGroup& x) const {
    return {v0 ^ x.v0, v1 ^ x.v1};
  }
  VAE_EXT_INLINE PhiloxGroup operator^(uint64_t x) const {
    const PhiloxLanes lanes = PhiloxLanes{} + x;
    return {v0 ^ lanes, v1 ^ lanes};
  }
  VAE_EXT_INLINE void store_low(uint32_t* out) const {
    const PhiloxWords low = even_words((PhiloxWords)v0, (PhiloxWords)v1);
    __builtin_memcpy(out, &low, sizeof low);
  }
};

VAE_EXT_INLINE PhiloxGroup operator^(uint64_t x, const PhiloxGroup& group) { return group ^ x; }

VAE_EXT_INLINE PhiloxGroup multiply_low(const PhiloxGroup& lanes, uint32_t constant) {
  return {multiply_low(lanes.v0, constant), multiply_low(lanes.v1, constant)};
}

// Blocks come in groups of this many; a caller leaves room for whole groups.
constexpr int kPhiloxGroup = PhiloxGroup::kLanes * PhiloxGroup::kVectors;
constexpr int kFloatLanes = 2 * PhiloxGroup::kLanes;

template <int kRow, class Counters>
VAE_EXT_INLINE void store_words(const Counters& words, int at, uint32_t (&word)[4][kRow]) {
  words.c0.store_low(&word[0][at]);
  words.c1.store_low(&word[1][at]);
  words.c2.store_low(&word[2][at]);
  words.c3.store_low(&word[3][at]);
}

// Words 0 to 3 of blocks first ... first + n - 1, each row n rounded up to whole groups.
template <int kRow>
inline void philox_blocks(int n, uint64_t seed, uint64_t stream, uint64_t first,
                          uint32_t (&word)[4][kRow]) {
  static_assert(kRow % kPhiloxGroup == 0);
  const auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  const uint64_t c2 = stream, c3 = stream >> 32;
  PhiloxLanes iota;
  for (int i = 0; i < PhiloxGroup::kLanes; ++i) iota[i] = static_cast<uint64_t>(i);
  for (int b = 0; b < n; b += kPhiloxGroup) {
    const uint64_t block = first + static_cast<uint64_t>(b);
    const PhiloxGroup c0(iota + block, iota + (block + PhiloxGroup::kLanes));
    // All counters but the first are the same in all lanes, except where its low half wraps.
    if (block >> 32 == (block + kPhiloxGroup - 1) >> 32) {
      store_words(philox_rounds(PhiloxCounters{c0, block >> 32, c2, c3}, key0, key1), b, word);
    } else {
      store_words(philox_rounds(PhiloxCounters{c0, c0 >> 32, c2, c3}, key0, key1), b, word);
    }
  }
}

// The same of any blocks, from a list that is readable to whole groups.
template <int kRow>
inline void philox_blocks_at(int n, uint64_t seed, uint64_t stream, const uint64_t* blocks,
                             uint32_t (&word)[4][kRow]) {
  const auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int b = 0; b < n; b += kPhiloxGroup) {
    PhiloxLanes some, more;
    __builtin_memcpy(&some, blocks + b, sizeof some);
    __builtin_memcpy(&more, blocks + b + PhiloxGroup::kLanes, sizeof more);
    const PhiloxGroup c0(some, more);
    const PhiloxCounters counters{c0, c0 >> 32, stream, stream >> 32};
    store_words(philox_rounds(counters, key0, key1), b, word);
  }
}

#else

constexpr int kPhiloxGroup = 1;
constexpr int kFloatLanes = 1;

template <int kRow>
inline void store_block(const PhiloxBlock& block, int at, uint32_t (&word)[4][kRow]) {
  for (int j = 0; j < 4; ++j) word[j][at] = block.word[j];
}

template <int kRow>
inline void philox_blocks(int n, uint64_t seed, uint64_t stream, uint64_t first,
                          uint32_t (&word)[4][kRow]) {
  for (int b = 0; b < n; ++b) {
    store_block(philox_block(seed, stream, first + static_cast<uint64_t>(b)), b, word);
  }
}

template <int kRow>
inline void philox_blocks_at(int n, uint64_t seed, uint64_t stream, const uint64_t* blocks,
                             uint32_t (&word)[4][kRow]) {
  for (int b = 0; b < n; ++b) store_block(philox_block(seed, stream, blocks[b]), b, word);
}

#endif

VAE_EXT_NAMESPACE_END
