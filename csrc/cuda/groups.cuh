// Tensors read and written in the logical (row-major) order of the full shape: contiguous tensors
// and rows of wider ones in groups of 4 or 8 elements, 16 bytes at a time, and all others, whatever
// their strides, broadcasting and dtypes, element by element.
#pragma once

#include "../math/elementary.h"
#include "bits.cuh"

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

// Where a group of vectors lies that starts at element `start`.
VAE_EXT_DEVICE int64_t group_offset(const Operand& o, int64_t start) {
  int64_t offset = start;
  if (o.access == Access::kRows) {
    offset += o.inner.quotient(start) * (o.outer_stride - static_cast<int64_t>(o.inner.size));
  }
  return offset;
}

// The group that starts at element `start`, `shift` elements on in memory, if it is a vector.
// Reading is in two steps, so that the loads of all operands are under way before the first is
// used: fetch() here, values() below.
template <class V>
VAE_EXT_DEVICE Bits fetch(const Operand& o, int64_t start, int64_t shift = 0) {
  Bits bits;
  if constexpr (V::kWidth > 1) {
    if (!o.vectors()) return bits;
    const int64_t offset = group_offset(o, start) + shift;
    switch (size_of(V::storage(o))) {
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
  if constexpr (V::kWidth == 1) {
    write_element(o.data, storage, offset_of<V>(o, start) + shift, in[0]);
  } else {
    const int64_t offset = group_offset(o, start) + shift;
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

// Whether all lie between 0 and `largest`: as bits, negative numbers and NaN are larger.
template <int kWidth>
VAE_EXT_DEVICE bool in_range(const float (&x)[kWidth], float largest) {
  uint32_t most = 0;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) most = bits_of(x[j]) > most ? bits_of(x[j]) : most;
  return most <= bits_of(largest);
}
template <int kWidth>
VAE_EXT_DEVICE bool in_range(const double (&)[kWidth], float) {
  return false;
}

}  // namespace vae_ext
