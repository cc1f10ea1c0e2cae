// Tensors as the kernels see them, broadcast to the full shape: what it takes to find an element,
// the cheap cases told from the others on the host.
#pragma once

#include <algorithm>
#include <vector>

#include "../ops/arguments.h"
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
  kContiguous,  // element i at i; groups are aligned
  kRows,        // rows of a wider tensor; groups are aligned and end where rows end
  kConstant,    // a number, no tensor
  kScalar,      // one element for all
  kRepeat,      // one element for every run of so many groups, as an event's gradient
  kStrided,     // anything else, element by element
};

// The full shape, and the order in which a kernel goes through its dimensions, outermost first:
// that of memory, where the result does not depend on it. Empty: as they come.
struct Frame {
  Shape shape;
  std::vector<size_t> order;

  Frame(const Shape& full) : shape(full) {}  // NOLINT: any shape is a frame

  // The last `dims` dimensions in the order in which `lead` has them in memory.
  Frame(const Shape& full, const Tensor& lead, int64_t dims) : shape(full) {
    const Shape strides = strides_of(lead);
    if (shape_of(lead) != full) return;
    for (size_t d = 0; d < full.size(); ++d) order.push_back(d);
    const auto first = order.end() - dims;
    const auto further = [&](size_t a, size_t b) { return strides[a] > strides[b]; };
    if (std::is_sorted(first, order.end(), further)) {
      order.clear();
    } else {
      std::stable_sort(first, order.end(), further);
    }
  }

  Layout layout(const Shape& sizes, const Shape& strides) const {
    if (order.empty()) return Layout(shape, sizes.data(), strides.data(), sizes.size());
    Shape full, own_sizes, own_strides;
    const size_t missing = shape.size() - sizes.size();
    for (size_t d : order) {
      full.push_back(shape[d]);
      own_sizes.push_back(d < missing ? 1 : sizes[d - missing]);
      own_strides.push_back(d < missing ? 0 : strides[d - missing]);
    }
    return Layout(full, own_sizes.data(), own_strides.data(), full.size());
  }
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
  VAE_EXT_INLINE bool vectors() const { return access <= Access::kRows; }

  static Operand constant(double value) {
    Operand o;
    o.value = value;
    return o;
  }

  Operand() = default;

  // `t`, whose dimensions are `sizes` and `strides`, broadcast to the frame; groups of `width`.
  Operand(const Tensor& t, const Frame& frame, const Shape& sizes, const Shape& strides, int width)
      : data(static_cast<char*>(t.data_ptr())), storage(storage_of(t.scalar_type())) {
    if (numel_of(frame.shape) == 0) {  // nothing is read
      access = Access::kContiguous;
      return;
    }
    const int64_t bytes = std::min<int64_t>(16, width * size_of(storage));
    place(frame.layout(sizes, strides), width,
          reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0);
  }

  // Where elements lie, of anything.
  Operand(const Layout& layout, int width, bool aligned) { place(layout, width, aligned); }

  Operand(const Tensor& t, const Frame& frame, int width)
      : Operand(t, frame, shape_of(t), strides_of(t), width) {}

  // A tensor, or a constant where there is none.
  Operand(const std::optional<Tensor>& t, double otherwise, const Frame& frame, int width)
      : Operand(t ? Operand(*t, frame, width) : constant(otherwise)) {}

  // The incoming gradient of a reduced result, spread over the elements. The factor of a mean
  // belongs to it.
  static Operand gradient(const Tensor& grad, const ReductionPlan& plan, const Frame& frame,
                          int width) {
    if (plan.reduction == Reduction::kNone) return Operand(grad, frame, width);
    Shape sizes = shape_of(grad);
    Shape strides = strides_of(grad);
    if (!plan.scalar()) {  // [events] over [events, event]
      sizes.resize(plan.shape.size(), 1);
      strides.resize(plan.shape.size(), 0);
    }
    Operand spread(grad, frame, sizes, strides, width);
    if (plan.scalar()) spread.value = plan.scale();
    return spread;
  }

 private:
  // aligned: whether a group may be read at once where the first element lies.
  void place(const Layout& layout, int width, bool aligned) {
    const int n = layout.ndim();
    if (n == 0 || (n == 1 && layout.stride(0) == 0)) {
      access = Access::kScalar;
    } else if (n == 1 && layout.stride(0) == 1 && aligned) {
      access = Access::kContiguous;
    } else if (n == 2 && layout.stride(0) == 1 && aligned && layout.size(0) % width == 0 &&
               layout.stride(1) % width == 0) {
      access = Access::kRows;
    } else if (n == 2 && layout.stride(0) == 0 && layout.size(0) % width == 0) {
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
};

// The frame of an op that sums: the elements of an event, or all, in any order. In double
// arithmetic it would change the last place of a sum.
inline Frame frame_of(const ReductionPlan& plan, const Tensor& lead, bool is_double) {
  if (plan.reduction == Reduction::kNone || is_double) return plan.shape;
  const auto all = static_cast<int64_t>(plan.shape.size());
  return Frame(plan.shape, lead, plan.scalar() ? all : plan.event_dims);
}

}  // namespace vae_ext
