// Where the elements of a tensor lie, and as what: the same for every device.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "../math/storage.h"
#include "tensors.h"

namespace vae_ext {

inline Storage storage_of(ScalarType t) {
  switch (t) {
    case ScalarType::Float:
      return Storage::kFloat;
    case ScalarType::Double:
      return Storage::kDouble;
    case ScalarType::Half:
      return Storage::kHalf;
    case ScalarType::BFloat16:
      return Storage::kBFloat16;
    case ScalarType::Bool:
    case ScalarType::Byte:
      return Storage::kByte;
    case ScalarType::Short:
      return Storage::kInt16;
    case ScalarType::UInt16:
      return Storage::kUInt16;
    case ScalarType::Int:
      return Storage::kInt32;
    case ScalarType::Long:
      return Storage::kInt64;
    default:
      STD_TORCH_CHECK(false, "vae_ext: unsupported dtype");
  }
}

VAE_EXT_INLINE constexpr int64_t size_of(Storage s) {
  switch (s) {
    case Storage::kFloat:
    case Storage::kInt32:
      return 4;
    case Storage::kDouble:
    case Storage::kInt64:
      return 8;
    case Storage::kByte:
      return 1;
    default:
      return 2;
  }
}

// Where element i of a broadcast tensor lies: its dimensions, adjacent ones merged, innermost
// first, strides in elements.
class Layout {
 public:
  Layout() { strides_[0] = 0; }

  // Most tensors merge to a dimension or two: copying all the room for 64 would cost more than the
  // arithmetic of a small op.
  Layout(const Layout& other) { *this = other; }
  Layout& operator=(const Layout& other) {
    ndim_ = other.ndim_;
    strides_[0] = other.strides_[0];
    std::copy_n(other.sizes_, ndim_, sizes_);
    std::copy_n(other.strides_, ndim_, strides_);
    return *this;
  }

  Layout(const Shape& shape, const int64_t* sizes, const int64_t* strides, size_t ndim) : Layout() {
    STD_TORCH_CHECK(shape.size() <= kMaxDims, "vae_ext: more than ", kMaxDims, " dimensions");
    for (size_t i = 0; i < shape.size(); ++i) {  // from the last dimension
      const int64_t size = shape[shape.size() - 1 - i];
      if (size == 1) continue;
      const bool own = i < ndim && sizes[ndim - 1 - i] != 1;
      push(size, own ? strides[ndim - 1 - i] : 0);
    }
  }

  int ndim() const { return ndim_; }
  int64_t size(int d) const { return sizes_[d]; }
  int64_t stride(int d) const { return strides_[d]; }

  // Calls piece(offset, stride, at, count) for each run of constant stride among elements
  // [start, start + n).
  template <class Piece>
  void for_each_run(int64_t start, int n, Piece piece) const {
    if (ndim_ <= 1) return piece(start * strides_[0], strides_[0], 0, n);
    std::array<int64_t, kMaxDims> index{};
    int64_t offset = 0;
    for (int d = 0; d < ndim_; ++d) {
      index[d] = d + 1 < ndim_ ? start % sizes_[d] : start;
      start /= sizes_[d];
      offset += index[d] * strides_[d];
    }
    for (int at = 0; at < n;) {
      const int64_t left = sizes_[0] - index[0];
      const int count = left < n - at ? static_cast<int>(left) : n - at;
      piece(offset, strides_[0], at, count);
      at += count;
      index[0] += count;
      offset += count * strides_[0];
      for (int d = 0; d + 1 < ndim_ && index[d] == sizes_[d]; ++d) {
        offset += strides_[d + 1] - sizes_[d] * strides_[d];
        index[d] = 0;
        ++index[d + 1];
      }
    }
  }

  // True if elements [start, start + n) are all the one at the returned offset, as where an event's
  // gradient is spread over its elements.
  bool repeated(int64_t start, int n, int64_t* offset) const {
    if (strides_[0] != 0 || ndim_ > 2) return false;
    const int64_t row = ndim_ == 2 ? start / sizes_[0] : 0;
    if (ndim_ == 2 && start - row * sizes_[0] + n > sizes_[0]) return false;
    *offset = ndim_ == 2 ? row * strides_[1] : 0;
    return true;
  }

  // True if elements [start, start + n) lie side by side, from the returned offset on.
  bool adjacent(int64_t start, int n, int64_t* offset) const {
    if (strides_[0] != 1) return false;
    if (ndim_ <= 1) {
      *offset = start;
      return true;
    }
    if (start % sizes_[0] + n > sizes_[0]) return false;
    *offset = 0;
    for (int d = 0; d < ndim_; ++d) {
      *offset += (d + 1 < ndim_ ? start % sizes_[d] : start) * strides_[d];
      start /= sizes_[d];
    }
    return true;
  }

 private:
  static constexpr size_t kMaxDims = 64;

  void push(int64_t size, int64_t stride) {
    if (ndim_ > 0 && stride == strides_[ndim_ - 1] * sizes_[ndim_ - 1]) {
      sizes_[ndim_ - 1] *= size;
      return;
    }
    sizes_[ndim_] = size;
    strides_[ndim_] = stride;
    ++ndim_;
  }

  int ndim_ = 0;
  int64_t sizes_[kMaxDims];
  int64_t strides_[kMaxDims];  // the first is 0 for a 0-dimensional tensor
};

}  // namespace vae_ext
