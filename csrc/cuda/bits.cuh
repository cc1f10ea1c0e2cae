// Groups of elements as bits: reading and writing them, and what they mean in each dtype.
#pragma once

#include "../math/half.h"
#include "operand.cuh"

namespace vae_ext {

// A group as it lies in memory; at most 8 floats or 4 doubles.
struct Bits {
  uint32_t word[8];
  VAE_EXT_DEVICE Bits() {}  // which says nothing of the words: setting them takes instructions
};

// kBytes: 2 to 32, a power of two.
template <int kBytes>
VAE_EXT_DEVICE void read_bytes(const char* source, Bits& bits) {
  if constexpr (kBytes == 2) {
    bits.word[0] = *reinterpret_cast<const uint16_t*>(source);
  } else if constexpr (kBytes == 4) {
    bits.word[0] = *reinterpret_cast<const uint32_t*>(source);
  } else if constexpr (kBytes == 8) {
    const uint2 v = *reinterpret_cast<const uint2*>(source);
    bits.word[0] = v.x, bits.word[1] = v.y;
  } else {
#pragma unroll
    for (int k = 0; k < kBytes / 16; ++k) {
      const uint4 v = reinterpret_cast<const uint4*>(source)[k];
      bits.word[4 * k] = v.x, bits.word[4 * k + 1] = v.y;
      bits.word[4 * k + 2] = v.z, bits.word[4 * k + 3] = v.w;
    }
  }
}

template <int kBytes>
VAE_EXT_DEVICE void write_bytes(char* out, const Bits& bits) {
  if constexpr (kBytes == 8) {
    *reinterpret_cast<uint2*>(out) = {bits.word[0], bits.word[1]};
  } else {
#pragma unroll
    for (int k = 0; k < kBytes / 16; ++k) {
      reinterpret_cast<uint4*>(out)[k] = {bits.word[4 * k], bits.word[4 * k + 1],
                                          bits.word[4 * k + 2], bits.word[4 * k + 3]};
    }
  }
}

template <class T>
VAE_EXT_DEVICE T read_element(const char* data, Storage storage, int64_t offset) {
  switch (storage) {
    case Storage::kFloat:
      return static_cast<T>(reinterpret_cast<const float*>(data)[offset]);
    case Storage::kDouble:
      return static_cast<T>(reinterpret_cast<const double*>(data)[offset]);
    case Storage::kHalf:
      return static_cast<T>(float_of_half(reinterpret_cast<const uint16_t*>(data)[offset]));
    case Storage::kBFloat16:
      return static_cast<T>(float_of_bfloat16(reinterpret_cast<const uint16_t*>(data)[offset]));
    case Storage::kInt16:
      return static_cast<T>(reinterpret_cast<const int16_t*>(data)[offset]);
    case Storage::kUInt16:
      return static_cast<T>(reinterpret_cast<const uint16_t*>(data)[offset]);
    case Storage::kInt32:
      return static_cast<T>(reinterpret_cast<const int32_t*>(data)[offset]);
    case Storage::kInt64:
      return static_cast<T>(reinterpret_cast<const int64_t*>(data)[offset]);
    default:
      return static_cast<T>(reinterpret_cast<const uint8_t*>(data)[offset]);
  }
}

template <class T>
VAE_EXT_DEVICE void write_element(char* data, Storage storage, int64_t offset, T value) {
  switch (storage) {
    case Storage::kFloat:
      reinterpret_cast<float*>(data)[offset] = static_cast<float>(value);
      return;
    case Storage::kDouble:
      reinterpret_cast<double*>(data)[offset] = static_cast<double>(value);
      return;
    case Storage::kHalf:
      reinterpret_cast<uint16_t*>(data)[offset] = half_of_float(static_cast<float>(value));
      return;
    default:
      reinterpret_cast<uint16_t*>(data)[offset] = bfloat16_of_float(static_cast<float>(value));
  }
}

VAE_EXT_DEVICE double double_of(uint32_t low, uint32_t high) {
  const uint64_t both = low | (static_cast<uint64_t>(high) << 32);
  double x;
  __builtin_memcpy(&x, &both, sizeof x);
  return x;
}

template <class T>
VAE_EXT_DEVICE T decode(const Bits& bits, Storage storage, int j) {
  const uint16_t half = static_cast<uint16_t>(bits.word[(j / 2) % 8] >> (16 * (j % 2)));
  switch (storage) {
    case Storage::kFloat:
      return static_cast<T>(float_of(bits.word[j]));
    case Storage::kDouble:
      return static_cast<T>(double_of(bits.word[(2 * j) % 8], bits.word[(2 * j + 1) % 8]));
    case Storage::kHalf:
      return static_cast<T>(float_of_half(half));
    case Storage::kBFloat16:
      return static_cast<T>(float_of_bfloat16(half));
    case Storage::kInt16:
      return static_cast<T>(static_cast<int16_t>(half));
    case Storage::kUInt16:
      return static_cast<T>(half);
    case Storage::kInt32:
      return static_cast<T>(static_cast<int32_t>(bits.word[j]));
    case Storage::kInt64:
      return static_cast<T>(static_cast<int64_t>(bits.word[(2 * j) % 8]) |
                            (static_cast<int64_t>(bits.word[(2 * j + 1) % 8]) << 32));
    default:
      return static_cast<T>((bits.word[j / 4] >> (8 * (j % 4))) & 0xffu);
  }
}

// One jump for the group, not one for each of its elements.
template <class T, int kWidth>
VAE_EXT_DEVICE void decode_all(const Bits& bits, Storage storage, T (&out)[kWidth]) {
#define VAE_EXT_DECODE(which)                            \
  case Storage::which: {                                 \
    _Pragma("unroll") for (int j = 0; j < kWidth; ++j) { \
      out[j] = decode<T>(bits, Storage::which, j);       \
    }                                                    \
    return;                                              \
  }
  switch (storage) {
    VAE_EXT_DECODE(kFloat)
    VAE_EXT_DECODE(kDouble)
    VAE_EXT_DECODE(kHalf)
    VAE_EXT_DECODE(kBFloat16)
    VAE_EXT_DECODE(kInt16)
    VAE_EXT_DECODE(kUInt16)
    VAE_EXT_DECODE(kInt32)
    VAE_EXT_DECODE(kInt64)
    default: {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) out[j] = decode<T>(bits, Storage::kByte, j);
    }
  }
#undef VAE_EXT_DECODE
}

}  // namespace vae_ext
