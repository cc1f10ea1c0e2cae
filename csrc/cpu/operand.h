// Tensors as streams of tiles: kTile consecutive elements, in the logical (row-major) order of the
// full shape, whatever the strides, the broadcasting and the dtype of the tensor behind them.
// A contiguous tensor of the arithmetic type is read and written in place.
#pragma once

#include <array>

#include "../ops/arguments.h"
#include "kernels.h"

namespace vae_ext {

template <class T>
constexpr Storage kStorageOf = Storage::kFloat;
template <>
inline constexpr Storage kStorageOf<double> = Storage::kDouble;

// The tile after the one at `data`, while that one is computed.
template <int kWrite>
inline void prefetch_next(const char* data, Storage storage) {
  const int64_t bytes = kTile * size_of(storage);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(data + bytes + i, kWrite, 3);
}

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
  static Input gradient(const Tensor& grad, const ReductionPlan& plan) {
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

  // The same input, kept between bounds.
  Input within(const Bounds& bounds) const {
    Input bounded = *this;
    bounded.bounds_ = bounds;
    return bounded;
  }

  // Elements [start, start + n), in place or in the buffer.
  const T* tile(int64_t start, int n, T* buffer) const {
    if (!bounds_) return raw_tile(start, n, buffer);
    alignas(64) T raw[kTile];
    kernels<T>().bound(n, bounds_.soft(), buffer, raw_tile(start, n, raw),
                       static_cast<T>(bounds_.low), static_cast<T>(bounds_.high));
    return buffer;
  }

 private:
  const T* raw_tile(int64_t start, int n, T* buffer) const {
    const auto& k = kernels<T>();
    int64_t offset = 0;
    if (constant_ || layout_.repeated(start, n, &offset)) {
      k.fill(n, constant_ ? value_ : value_at(offset), buffer);
      return buffer;
    }
    if (layout_.adjacent(start, n, &offset)) {
      const char* source = data_ + offset * size_of(storage_);
      prefetch_next<0>(source, storage_);
      if (storage_ == kStorageOf<T>) return reinterpret_cast<const T*>(source);
      k.load(n, storage_, source, 1, buffer);
      return buffer;
    }
    layout_.for_each_run(start, n, [&](int64_t at_offset, int64_t stride, int at, int count) {
      if (stride == 0) {
        k.fill(count, value_at(at_offset), buffer + at);
      } else {
        k.load(count, storage_, data_ + at_offset * size_of(storage_), stride, buffer + at);
      }
    });
    return buffer;
  }

  T value_at(int64_t offset) const {
    const void* source = data_ + offset * size_of(storage_);
    if (storage_ == kStorageOf<T>) return *static_cast<const T*>(source);
    T value;
    kernels<T>().load(1, storage_, source, 1, &value);
    return value;
  }

  const char* data_ = nullptr;
  Storage storage_ = kStorageOf<T>;
  Layout layout_;
  bool constant_ = false;
  T value_ = 0;
  Bounds bounds_;
};

// An output of the full shape.
template <class T>
class Output {
 public:
  explicit Output(const Tensor& t) : Output(t, shape_of(t)) {}

  // Where to write elements [start, start + n): the tensor itself, or the buffer.
  T* begin(int64_t start, int n, T* buffer) const {
    int64_t offset = 0;
    if (!layout_.adjacent(start, n, &offset)) return buffer;
    char* target = data_ + offset * size_of(storage_);
    prefetch_next<1>(target, storage_);
    return storage_ == kStorageOf<T> ? reinterpret_cast<T*>(target) : buffer;
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
