// Tensors read and written in the logical (row-major) order of the full shape: contiguous tensors
// and rows of wider ones in groups of 4 or 8 elements, 16 bytes at a time, and all others, whatever
// their strides, broadcasting and dtypes, element by element.
#pragma once

#include "../math/elementary.h"
#include "../math/half.h"
#include "operand.cuh"

namespace vae_ext {

// What a kernel knows of the tensors that it reads and writes in groups.
enum class Tensors {
  kPlain,    // contiguous or rows of wider ones, of one dtype
  kVectors,  // the same, of any dtypes
  kAny,      // anything: elements one by one
};

// What a kernel is compiled for: the arithmetic type, the group, and what is known of the tensors.
template <class T_, int kWidth_, Tensors kTensors_, Storage kStorage_ = Storage::kFloat>
struct Variant {
  using T = T_;
  static constexpr int kWidth = kWidth_;
  static constexpr bool kPlain = kTensors_ == Tensors::kPlain;
  static constexpr bool kAny = kTensors_ == Tensors::kAny;
  // For elements that are in no whole group, and groups that need more care.
  using Single = Variant<T_, 1, kTensors_, kStorage_>;

  // Of what is read or written in groups, and of single elements.
  VAE_EXT_DEVICE static Storage storage(const Operand& o) {
    return kPlain && (kWidth > 1 || o.vectors()) ? kStorage_ : o.storage;
  }
};

// ---- Bits ------------------------------------------------------------------------------------

// A group as it lies in memory; at most 8 floats or 4 doubles.
struct Bits {
  uint32_t word[8];
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

VAE_EXT_DEVICE int64_t strided_offset(const Operand& o, int64_t i) {
  int64_t offset = 0;
#pragma unroll 1
  for (int d = 0; d + 1 < o.ndim; ++d) {
    const int64_t next = o.size[d].quotient(i);
    offset += (i - next * static_cast<int64_t>(o.size[d].size)) * o.stride[d];
    i = next;
  }
  return offset + i * o.stride[o.ndim - 1];
}

// Where element i of anything but a constant lies.
template <class V>
VAE_EXT_DEVICE int64_t offset_of(const Operand& o, int64_t i) {
  switch (o.access) {
    case Access::kContiguous:
      return i;
    case Access::kRows: {
      const int64_t row = o.inner.quotient(i);
      return row * o.outer_stride + (i - row * static_cast<int64_t>(o.inner.size));
    }
    case Access::kRepeat:
      return o.inner.quotient(i) * o.outer_stride;
    case Access::kStrided:
      if constexpr (V::kAny) return strided_offset(o, i);
      [[fallthrough]];
    default:
      return 0;
  }
}

// ---- Groups ----------------------------------------------------------------------------------

// The group that starts at element `start`, `shift` elements on in memory. Reading is in two steps,
// so that the loads of all operands are under way before the first is used: fetch() here, values()
// below.
template <class V>
VAE_EXT_DEVICE Bits fetch(const Operand& o, int64_t start, int64_t shift = 0) {
  Bits bits = {};
  if constexpr (V::kWidth > 1) {
    if (!o.vectors()) return bits;
    const Storage storage = V::storage(o);
    const int64_t offset = offset_of<V>(o, start) + shift;
    switch (size_of(storage)) {
      case 1:
        read_bytes<V::kWidth>(o.data + offset, bits);
        break;
      case 2:
        read_bytes<2 * V::kWidth>(o.data + 2 * offset, bits);
        break;
      case 4:
        read_bytes<4 * V::kWidth>(o.data + 4 * offset, bits);
        break;
      default:
        if constexpr (V::kWidth <= 4) read_bytes<8 * V::kWidth>(o.data + 8 * offset, bits);
    }
  }
  return bits;
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

// The elements that were fetched, or what is the same for all of them.
template <class V>
VAE_EXT_DEVICE void values(const Operand& o, const Bits& bits, int64_t start,
                           typename V::T (&out)[V::kWidth], int64_t shift = 0) {
  using T = typename V::T;
  if constexpr (V::kWidth > 1) {
    if (o.vectors()) {
      if constexpr (V::kPlain) {
#pragma unroll
        for (int j = 0; j < V::kWidth; ++j) out[j] = decode<T>(bits, V::storage(o), j);
      } else {
        decode_all(bits, o.storage, out);
      }
      return;
    }
  }
  T value;
  if (o.access == Access::kConstant) {
    value = static_cast<T>(o.value);
  } else if (o.access == Access::kScalar) {
    value = static_cast<T>(o.value * read_element<double>(o.data, o.storage, shift));
  } else {
    const Storage storage = V::kWidth > 1 ? o.storage : V::storage(o);
    value = read_element<T>(o.data, storage, offset_of<V>(o, start) + shift);
  }
#pragma unroll
  for (int j = 0; j < V::kWidth; ++j) out[j] = value;
}

template <class V>
VAE_EXT_DEVICE void store(const Operand& o, int64_t start, const typename V::T (&in)[V::kWidth],
                          int64_t shift = 0) {
  const Storage storage = V::storage(o);
  const int64_t offset = offset_of<V>(o, start) + shift;
  if constexpr (V::kWidth == 1) {
    write_element(o.data, storage, offset, in[0]);
  } else {
    Bits bits;
    if (storage == Storage::kFloat) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) bits.word[j] = bits_of(static_cast<float>(in[j]));
      write_bytes<4 * V::kWidth>(o.data + 4 * offset, bits);
    } else if (storage == Storage::kDouble) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        reinterpret_cast<double*>(o.data)[offset + j] = static_cast<double>(in[j]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < V::kWidth; j += 2) {
        const float a = static_cast<float>(in[j]), b = static_cast<float>(in[j + 1]);
        bits.word[j / 2] = storage == Storage::kHalf ? pair_of_half(a, b) : pair_of_bfloat16(a, b);
      }
      write_bytes<2 * V::kWidth>(o.data + 2 * offset, bits);
    }
  }
}

// ---- What is known of a group -------------------------------------------------------------------

// Whether the short exp serves all of a group's log-variances, logits and such: see ExpRange. NaN
// passes.
template <int kWidth>
VAE_EXT_DEVICE bool bounded(const float (&x)[kWidth]) {
  float most = 0.f;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) most = fmaxf(most, fabsf(x[j]));
  return most <= 0.5f * kBoundedExponent;
}
template <int kWidth>
VAE_EXT_DEVICE bool bounded(const double (&)[kWidth]) {
  return false;
}

}  // namespace vae_ext
