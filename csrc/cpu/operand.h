// Tensors as streams of tiles: kTile consecutive elements, in the logical (row-major) order of the
// full shape, whatever the strides, the broadcasting and the dtype of the tensor behind them.
// A contiguous tensor of the arithmetic type is read and written in place.
#pragma once

#include <array>

#include "../tensors.h"
#include "kernels.h"

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
    default:
      STD_TORCH_CHECK(false, "vae_ext: unsupported dtype");
  }
}

inline int64_t size_of(Storage s) {
  switch (s) {
    case Storage::kFloat:
      return 4;
    case Storage::kDouble:
      return 8;
    case Storage::kByte:
      return 1;
    default:
      return 2;
  }
}

template <class T>
constexpr Storage kStorageOf = Storage::kFloat;
template <>
inline constexpr Storage kStorageOf<double> = Storage::kDouble;

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

// An input, broadcast to the full shape and converted to T.
template <class T>
class Input {
 public:
  Input(const Tensor& t, const Shape& shape)
      : data_(static_cast<const char*>(t.const_data_ptr())),
        storage_(storage_of(t.scalar_type())),
        layout_(shape, t.sizes().data(), t.strides().data(), static_cast<size_t>(t.dim())) {}

  // The same value at every element.
  explicit Input(T value) : constant_(true), value_(value) {}

  // A tensor, or a constant where there is none.
  Input(const std::optional<Tensor>& t, T value, const Shape& shape) : Input(value) {
    if (t) *this = Input(*t, shape);
  }

  // The incoming gradient of a reduced result, spread over the elements. The factor of a mean
  // belongs to it.
  static Input gradient(const Tensor& grad, const EventPlan& plan) {
    if (plan.scalar()) {
      double value = 0;
      kernels<double>().load(1, storage_of(grad.scalar_type()), grad.const_data_ptr(), 1, &value);
      return Input(static_cast<T>(value * plan.scale()));
    }
    if (plan.reduction == Reduction::kNone) return Input(grad, plan.shape);
    Shape sizes = shape_of(grad);
    Shape strides(grad.strides().begin(), grad.strides().end());
    sizes.resize(plan.shape.size(), 1);
    strides.resize(plan.shape.size(), 0);
    Input input(T(0));
    input.constant_ = false;
    input.data_ = static_cast<const char*>(grad.const_data_ptr());
    input.storage_ = storage_of(grad.scalar_type());
    input.layout_ = Layout(plan.shape, sizes.data(), strides.data(), sizes.size());
    return input;
  }

  // Elements [start, start + n), in place or in the buffer.
  const T* tile(int64_t start, int n, T* buffer) const {
    if (constant_) {
      std::fill_n(buffer, n, value_);
      return buffer;
    }
    int64_t offset = 0;
    if (storage_ == kStorageOf<T> && layout_.adjacent(start, n, &offset)) {
      return reinterpret_cast<const T*>(data_) + offset;
    }
    const auto& k = kernels<T>();
    layout_.for_each_run(start, n, [&](int64_t at_offset, int64_t stride, int at, int count) {
      const void* source = data_ + at_offset * size_of(storage_);
      if (stride == 0) {
        T value;
        if (storage_ == kStorageOf<T>) {
          value = *static_cast<const T*>(source);
        } else {
          k.load(1, storage_, source, 1, &value);
        }
        std::fill_n(buffer + at, count, value);
      } else {
        k.load(count, storage_, source, stride, buffer + at);
      }
    });
    return buffer;
  }

 private:
  const char* data_ = nullptr;
  Storage storage_ = kStorageOf<T>;
  Layout layout_;
  bool constant_ = false;
  T value_ = 0;
};

// The tiles of an op's inputs at one place, loaded once for all that is computed there.
template <class T, int kInputs>
class Tiles {
 public:
  const T* operator[](int i) const { return tile_[i]; }

  void load(const std::array<const Input<T>*, kInputs>& inputs, int64_t start, int n) {
    for (int i = 0; i < kInputs; ++i) tile_[i] = inputs[i]->tile(start, n, buffer_[i]);
  }

 private:
  const T* tile_[kInputs];
  alignas(64) T buffer_[kInputs][kTile];
};

// An output of the full shape.
template <class T>
class Output {
 public:
  explicit Output(const Tensor& t) : Output(t, shape_of(t)) {}

  // Where to write elements [start, start + n): the tensor itself, or the buffer.
  T* begin(int64_t start, int n, T* buffer) const {
    int64_t offset = 0;
    const bool direct = storage_ == kStorageOf<T> && layout_.adjacent(start, n, &offset);
    return direct ? reinterpret_cast<T*>(data_) + offset : buffer;
  }

  // Stores what was written to the buffer, if it was.
  void finish(int64_t start, int n, const T* written, const T* buffer) const {
    if (written != buffer) return;
    layout_.for_each_run(start, n, [&](int64_t offset, int64_t stride, int at, int count) {
      kernels<T>().store(count, storage_, buffer + at, data_ + offset * size_of(storage_), stride);
    });
  }

 private:
  Output(const Tensor& t, const Shape& shape)
      : data_(static_cast<char*>(t.mutable_data_ptr())),
        storage_(storage_of(t.scalar_type())),
        layout_(shape, shape.data(), t.strides().data(), shape.size()) {}

  char* data_;
  Storage storage_;
  Layout layout_;
};

}  // namespace vae_ext
