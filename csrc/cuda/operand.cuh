// Tensors as the kernels see them: groups of 4 or 8 consecutive elements, in the logical
// (row-major) order of the full shape, whatever the strides, the broadcasting and the dtype of the
// tensor behind them. Contiguous tensors and rows of wider ones move 16 bytes at a time.
#pragma once

#include "../half.h"
#include "../layout.h"
#include "launch.cuh"

namespace vae_ext {

// n / size for 0 <= n < 2^63 by a multiplication: a 64-bit division takes a GPU about 100
// instructions.
struct Divider {
  uint64_t size = 1;
  uint64_t magic = uint64_t{1} << 63;  // 2^(63 + shift) / size, rounded up
  int shift = 0;                       // log2(size), rounded up

  Divider() = default;
  explicit Divider(int64_t n) : size(static_cast<uint64_t>(n)) {
    while (shift < 63 && (uint64_t{1} << shift) < size) ++shift;
    const unsigned __int128 power = static_cast<unsigned __int128>(1) << (63 + shift);
    magic = static_cast<uint64_t>((power + size - 1) / size);
  }

  VAE_EXT_DEVICE int64_t quotient(int64_t n) const {
    return static_cast<int64_t>(__umul64hi(static_cast<uint64_t>(n) << 1, magic) >> shift);
  }
};

// Where a tensor's elements lie, by what it costs to find them.
enum class Access {
  kConstant,    // a number, no tensor
  kScalar,      // one element for all
  kContiguous,  // element i at i; groups are aligned
  kRows,        // rows of a wider tensor; groups are aligned and end where rows end
  kRepeat,      // one element for every run of so many, as an event's gradient
  kStrided,     // anything else, element by element
};

struct Operand {
  static constexpr int kMaxDims = 8;

  char* data = nullptr;
  Storage storage = Storage::kFloat;
  Access access = Access::kConstant;
  double value = 1;          // kConstant: the number; kScalar: a factor
  Divider inner;             // kRows, kRepeat: elements of a row
  int64_t outer_stride = 0;  // and from row to row
  int ndim = 0;              // kStrided: innermost first
  Divider size[kMaxDims];
  int64_t stride[kMaxDims] = {};

  VAE_EXT_INLINE bool strided() const { return access == Access::kStrided; }
  VAE_EXT_INLINE bool vectors() const {
    return access == Access::kContiguous || access == Access::kRows;
  }

  static Operand constant(double value) {
    Operand o;
    o.value = value;
    return o;
  }

  Operand() = default;

  // `t`, whose dimensions are `sizes` and `strides`, broadcast to `shape`; groups of `width`.
  Operand(const Tensor& t, const Shape& shape, const Shape& sizes, const Shape& strides, int width)
      : data(static_cast<char*>(t.data_ptr())), storage(storage_of(t.scalar_type())) {
    if (numel_of(shape) == 0) {  // nothing is read
      access = Access::kContiguous;
      return;
    }
    const Layout layout(shape, sizes.data(), strides.data(), sizes.size());
    const int64_t bytes = std::min<int64_t>(16, width * size_of(storage));
    const bool aligned = reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0;
    const int n = layout.ndim();
    if (n == 0 || (n == 1 && layout.stride(0) == 0)) {
      access = Access::kScalar;
    } else if (n == 1 && layout.stride(0) == 1 && aligned) {
      access = Access::kContiguous;
    } else if (n == 2 && layout.stride(0) == 1 && aligned && layout.size(0) % width == 0 &&
               layout.stride(1) % width == 0) {
      access = Access::kRows;
    } else if (n == 2 && layout.stride(0) == 0) {
      access = Access::kRepeat;
    } else {
      access = Access::kStrided;
      STD_TORCH_CHECK(n <= kMaxDims, "vae_ext: a tensor of more than ", kMaxDims,
                      " dimensions that cannot be merged; make it contiguous");
      ndim = n;
      for (int d = 0; d < n; ++d) {
        size[d] = Divider(layout.size(d));
        stride[d] = layout.stride(d);
      }
      return;
    }
    if (n == 2) {
      inner = Divider(layout.size(0));
      outer_stride = layout.stride(1);
    }
  }

  Operand(const Tensor& t, const Shape& shape, int width)
      : Operand(t, shape, shape_of(t), strides_of(t), width) {}

  // A tensor, or a constant where there is none.
  Operand(const std::optional<Tensor>& t, double otherwise, const Shape& shape, int width)
      : Operand(t ? Operand(*t, shape, width) : constant(otherwise)) {}

  // The incoming gradient of a reduced result, spread over the elements. The factor of a mean
  // belongs to it.
  static Operand gradient(const Tensor& grad, const EventPlan& plan, int width) {
    if (plan.reduction == Reduction::kNone) return Operand(grad, plan.shape, width);
    Shape sizes = shape_of(grad);
    Shape strides = strides_of(grad);
    if (!plan.scalar()) {  // [events] over [events, event]
      sizes.resize(plan.shape.size(), 1);
      strides.resize(plan.shape.size(), 0);
    }
    Operand spread(grad, plan.shape, sizes, strides, width);
    if (plan.scalar()) spread.value = plan.scale();
    return spread;
  }
};

// What a kernel is compiled for: the arithmetic type, the group, and either one storage type for
// all tensors that are read or written in groups, or any mixture and any strides.
template <class T_, int kWidth_, bool kUniform_, Storage kStorage_ = Storage::kFloat>
struct Variant {
  using T = T_;
  static constexpr int kWidth = kWidth_;
  static constexpr bool kUniform = kUniform_;
  // Blocks that one multiprocessor must have room for: enough loads under way to hide memory's
  // latency, where that takes no spilling.
  static constexpr int kMinBlocks = kUniform && sizeof(T) == 4 ? 3 : 1;

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
      read_words<V::kWidth>(o.data + 4 * offset, bits);
      break;
    case Storage::kDouble:
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
VAE_EXT_DEVICE void store(const Operand& o, const Span& span,
                          const typename V::T (&in)[V::kWidth]) {
  const Storage storage = V::storage(o);
  if (o.vectors() && span.hi - span.lo == V::kWidth) {
    const int64_t offset = offset_of<V>(o, span.start);
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
    write_element(o.data, o.storage, offset_of<V>(o, span.start + j), in[j]);
  }
}

}  // namespace vae_ext
