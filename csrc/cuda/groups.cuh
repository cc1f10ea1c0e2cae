// Tensors read and written in groups of 4 or 8 consecutive elements, in the logical (row-major)
// order of the full shape, whatever the strides, the broadcasting and the dtype of the tensor
// behind them. Contiguous tensors and rows of wider ones move 16 bytes at a time.
#pragma once

#include "../math/half.h"
#include "operand.cuh"

namespace vae_ext {

// What a kernel is compiled for: the arithmetic type, the group, and either one storage type for
// all tensors that are read or written in groups, or any mixture and any strides.
template <class T_, int kWidth_, bool kUniform_, Storage kStorage_ = Storage::kFloat>
struct Variant {
  using T = T_;
  static constexpr int kWidth = kWidth_;
  static constexpr bool kUniform = kUniform_;
  VAE_EXT_DEVICE static Storage storage(const Operand& o) {
    return kUniform ? kStorage_ : o.storage;
  }
};

// Elements [lo, hi) of the group that starts at `start`.
struct Span {
  int64_t start;
  int lo, hi;
};

// ---- Bits ------------------------------------------------------------------------------------

// A group as it lies in memory; at most 8 floats or 4 doubles.
struct Bits {
  uint32_t word[8];
};

template <int kWords>
VAE_EXT_DEVICE void read_words(const char* source, Bits& bits) {
  if constexpr (kWords == 1) {
    bits.word[0] = *reinterpret_cast<const uint32_t*>(source);
  } else if constexpr (kWords == 2) {
    const uint2 v = *reinterpret_cast<const uint2*>(source);
    bits.word[0] = v.x, bits.word[1] = v.y;
  } else {
#pragma unroll
    for (int k = 0; k < kWords / 4; ++k) {
      const uint4 v = reinterpret_cast<const uint4*>(source)[k];
      bits.word[4 * k] = v.x, bits.word[4 * k + 1] = v.y;
      bits.word[4 * k + 2] = v.z, bits.word[4 * k + 3] = v.w;
    }
  }
}

template <int kWords>
VAE_EXT_DEVICE void write_words(char* out, const Bits& bits) {
  if constexpr (kWords == 2) {
    *reinterpret_cast<uint2*>(out) = {bits.word[0], bits.word[1]};
  } else {
#pragma unroll
    for (int k = 0; k < kWords / 4; ++k) {
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
      if constexpr (!V::kUniform) return strided_offset(o, i);
      [[fallthrough]];
    default:
      return 0;
  }
}

// ---- Groups ----------------------------------------------------------------------------------

// Reading is in two steps, so that the loads of all operands are under way before the first is
// used: fetch() here, values() below.
template <class V>
VAE_EXT_DEVICE Bits fetch(const Operand& o, const Span& span, int64_t shift = 0) {
  Bits bits = {};
  if (!o.vectors() || span.hi - span.lo != V::kWidth) return bits;
  const Storage storage = V::storage(o);
  const int64_t offset = offset_of<V>(o, span.start) + shift;
  switch (storage) {
    case Storage::kFloat:
    case Storage::kInt32:
      read_words<V::kWidth>(o.data + 4 * offset, bits);
      break;
    case Storage::kDouble:
    case Storage::kInt64:
      read_words<8>(o.data + 8 * offset, bits);
      break;
    case Storage::kByte:
      read_words<V::kWidth / 4>(o.data + offset, bits);
      break;
    default:
      read_words<V::kWidth / 2>(o.data + 2 * offset, bits);
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

// The elements that were fetched, or that are found one by one; 0 outside the span.
template <class V>
VAE_EXT_DEVICE void values(const Operand& o, const Bits& bits, const Span& span,
                           typename V::T (&out)[V::kWidth], int64_t shift = 0) {
  using T = typename V::T;
  const bool full = span.hi - span.lo == V::kWidth;
  if (o.access == Access::kConstant || o.access == Access::kScalar) {
    double value = o.value;
    if (o.access == Access::kScalar) {
      value *= read_element<double>(o.data, o.storage, shift);
    }
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) out[j] = static_cast<T>(value);
  } else if (o.vectors() && full) {
    const Storage storage = V::storage(o);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) out[j] = decode<T>(bits, storage, j);
  } else {
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      out[j] = T(0);
      if (j < span.lo || j >= span.hi) continue;
      out[j] = read_element<T>(o.data, o.storage, offset_of<V>(o, span.start + j) + shift);
    }
  }
}

// Writes the elements of the span.
template <class V>
VAE_EXT_DEVICE void store(const Operand& o, const Span& span, const typename V::T (&in)[V::kWidth],
                          int64_t shift = 0) {
  const Storage storage = V::storage(o);
  if (o.vectors() && span.hi - span.lo == V::kWidth) {
    const int64_t offset = offset_of<V>(o, span.start) + shift;
    Bits bits;
    if (storage == Storage::kFloat) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) bits.word[j] = bits_of(static_cast<float>(in[j]));
      write_words<V::kWidth>(o.data + 4 * offset, bits);
    } else if (storage == Storage::kDouble) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        reinterpret_cast<double*>(o.data)[offset + j] = static_cast<double>(in[j]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < V::kWidth; j += 2) {
        const float a = static_cast<float>(in[j]), b = static_cast<float>(in[j + 1]);
        const uint32_t low = storage == Storage::kHalf ? half_of_float(a) : bfloat16_of_float(a);
        const uint32_t high = storage == Storage::kHalf ? half_of_float(b) : bfloat16_of_float(b);
        bits.word[j / 2] = low | (high << 16);
      }
      write_words<V::kWidth / 2>(o.data + 2 * offset, bits);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < V::kWidth; ++j) {
    if (j < span.lo || j >= span.hi) continue;
    write_element(o.data, o.storage, offset_of<V>(o, span.start + j) + shift, in[j]);
  }
}

}  // namespace vae_ext
