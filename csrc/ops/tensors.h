// Shapes, broadcasting and allocation: what an op does to its tensors before a kernel starts, the
// same for every device.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace vae_ext {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = std::vector<int64_t>;

inline Shape shape_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return Shape(sizes.begin(), sizes.end());
}

inline bool has_shape(const Tensor& t, const Shape& shape) {
  const auto sizes = t.sizes();
  return std::equal(sizes.begin(), sizes.end(), shape.begin(), shape.end());
}

inline Shape strides_of(const Tensor& t) {
  const auto strides = t.strides();
  return Shape(strides.begin(), strides.end());
}

inline int64_t product(const int64_t* begin, const int64_t* end) {
  return std::accumulate(begin, end, int64_t{1}, [](int64_t a, int64_t b) { return a * b; });
}

inline int64_t numel_of(const Shape& shape) {
  return product(shape.data(), shape.data() + shape.size());
}

// The broadcast of two shapes, as torch.broadcast_shapes. Python has checked that it exists.
inline Shape broadcast(const Shape& a, const Shape& b) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < out.size(); ++i) {  // from the last dimension
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    STD_TORCH_CHECK(x == y || x == 1 || y == 1, "vae_ext: shapes do not broadcast");
    out[out.size() - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

inline Shape broadcast(const Shape& a, const std::optional<Tensor>& b) {
  return b ? broadcast(a, shape_of(*b)) : a;
}

// The dtype of elementwise results: torch's promotion among floating-point types.
inline ScalarType promote(ScalarType a, ScalarType b) {
  const auto rank = [](ScalarType t) {
    return t == ScalarType::Double ? 3 : t == ScalarType::Float ? 2 : 1;
  };
  if (a == b) return a;
  if (rank(a) == 1 && rank(b) == 1) return ScalarType::Float;  // float16 with bfloat16
  return rank(a) > rank(b) ? a : b;
}

inline ScalarType promote(ScalarType a, const std::optional<Tensor>& b) {
  return b ? promote(a, b->scalar_type()) : a;
}

// The dtype that half-precision tensors are computed and reduced in.
inline ScalarType arithmetic_type(ScalarType t) {
  return t == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline int32_t device_index(const Tensor& t) {
  int32_t index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(t.get(), &index));
  return index;
}

inline Tensor empty_strided(const Shape& shape, const Shape& strides, ScalarType dtype,
                            const Tensor& like) {
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  const auto dtype_code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(),
                                                  strides.data(), dtype_code, device_type,
                                                  device_index(like), &handle));
  return Tensor(handle);
}

inline Tensor empty(const Shape& shape, ScalarType dtype, const Tensor& like) {
  Shape strides(shape.size());
  int64_t next = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = next;
    next *= std::max<int64_t>(shape[i], 1);
  }
  return empty_strided(shape, strides, dtype, like);
}

// A dense tensor whose dimensions lie in the order of t's, as torch's elementwise ops give: the
// result of a channels_last input, or of a slice of one, is channels_last.
inline Tensor empty_like(const Tensor& t, const Shape& shape, ScalarType dtype) {
  const auto strides = t.strides();
  std::vector<size_t> order(shape.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const bool expanded = std::any_of(order.begin(), order.end(),
                                    [&](size_t d) { return strides[d] == 0 && shape[d] > 1; });
  if (!expanded) {
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return strides[a] > strides[b]; });
  }
  Shape dense(shape.size());
  int64_t next = 1;
  for (size_t i = order.size(); i-- > 0;) {
    dense[order[i]] = next;
    next *= std::max<int64_t>(shape[order[i]], 1);
  }
  return empty_strided(shape, dense, dtype, t);
}
inline Tensor empty_like(const Tensor& t, ScalarType dtype) {
  return empty_like(t, shape_of(t), dtype);
}

// Two parameters; without the second, the first holds both, as halves along a dimension, which are
// read in place.
inline std::pair<Tensor, Tensor> parameters(Tensor first, const std::optional<Tensor>& second,
                                            int64_t dim) {
  if (second) return {first, *second};
  STD_TORCH_CHECK(0 <= dim && dim < first.dim(), "vae_ext: dim out of range");
  const int64_t half = first.sizes()[static_cast<size_t>(dim)] / 2;
  return {torch::stable::narrow(first, dim, 0, half),
          torch::stable::narrow(first, dim, half, half)};
}

// Two tensors like t, written by write(pair), as one: side by side along a dimension, in its
// layout.
template <class Write>
Tensor side_by_side(const Tensor& t, int64_t dim, Write write) {
  Shape shape = shape_of(t);
  STD_TORCH_CHECK(0 <= dim && dim < static_cast<int64_t>(shape.size()),
                  "vae_ext: dim out of range");
  const int64_t half = shape[static_cast<size_t>(dim)];
  shape[static_cast<size_t>(dim)] *= 2;
  Tensor both = empty_like(t, shape, t.scalar_type());
  const Tensor pair[] = {torch::stable::narrow(both, dim, 0, half),
                         torch::stable::narrow(both, dim, half, half)};
  write(pair);
  return both;
}

// A gradient of a broadcast result, summed to the shape of the input that it belongs to.
inline Tensor sum_to(const Tensor& gradient, const Tensor& input) {
  const Shape from = shape_of(gradient);
  const Shape to = shape_of(input);
  const size_t added = from.size() - to.size();
  std::vector<int64_t> dims;
  for (size_t d = 0; d < from.size(); ++d) {
    if (d < added || (to[d - added] == 1 && from[d] != 1)) dims.push_back(static_cast<int64_t>(d));
  }
  const Tensor sums = torch::stable::sum(gradient, dims, true);
  return torch::stable::to(torch::stable::reshape(sums, to), input.scalar_type());
}

// A 0-dimensional CPU tensor over a number that the caller owns.
inline Tensor wrap_scalar(int64_t* value) {
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_create_tensor_from_blob(value, 0, nullptr, nullptr, 0, aoti_torch_dtype_int64(),
                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// The result of an elementwise op over `shape`: laid out like `lead` where that has the shape.
inline Tensor empty_result(const Shape& shape, ScalarType dtype, const Tensor& lead) {
  return has_shape(lead, shape) ? empty_like(lead, dtype) : empty(shape, dtype, lead);
}

// ---- Reductions --------------------------------------------------------------------------------

enum class Reduction : int64_t { kNone, kEvent, kSum, kMean, kBatchMean };

// What is asked of an op's terms: the trailing dimensions of one event, a Reduction, and what a
// mean is over, if not over the elements or events that there are.
struct ReductionArguments {
  int64_t event_dims = 0;
  int64_t reduction = static_cast<int64_t>(Reduction::kNone);
  std::optional<int64_t> count = std::nullopt;
};

// How the elements of `shape` fall into events and what comes of them.
struct ReductionPlan {
  Shape shape;
  Reduction reduction;
  int64_t event_dims;  // trailing dimensions of one event, resolved
  int64_t numel;
  int64_t n_events;
  int64_t event_size;
  int64_t count;  // what a mean is over

  ReductionPlan(Shape full, const ReductionArguments& asked)
      : shape(std::move(full)),
        reduction(static_cast<Reduction>(asked.reduction)),
        event_dims(asked.event_dims),
        numel(numel_of(shape)) {
    const auto ndim = static_cast<int64_t>(shape.size());
    STD_TORCH_CHECK(0 <= event_dims && event_dims <= ndim, "vae_ext: event_dims out of range");
    STD_TORCH_CHECK(0 <= asked.reduction && asked.reduction <= 4, "vae_ext: unknown reduction");
    const int64_t* split = shape.data() + (ndim - event_dims);
    n_events = product(shape.data(), split);
    event_size = product(split, shape.data() + ndim);
    count = asked.count.value_or(reduction == Reduction::kMean ? numel : n_events);
  }

  bool scalar() const { return reduction != Reduction::kNone && reduction != Reduction::kEvent; }

  // What the sum over all elements is multiplied by.
  double scale() const {
    const bool mean = reduction == Reduction::kMean || reduction == Reduction::kBatchMean;
    return mean ? 1.0 / static_cast<double>(count) : 1.0;
  }

  Tensor allocate(ScalarType dtype, const Tensor& lead) const {
    if (reduction == Reduction::kNone) return empty_result(shape, dtype, lead);
    const auto lead_dims = shape.size() - static_cast<size_t>(event_dims);
    const Shape events(shape.begin(), shape.begin() + static_cast<int64_t>(lead_dims));
    return empty(scalar() ? Shape{} : events, arithmetic_type(dtype), lead);
  }
};

// Which outputs an op computes: bit i for output i. (A list of booleans costs a microsecond more
// per call.)
class OutputMask {
 public:
  explicit OutputMask(int64_t bits) : bits_(bits) {}
  bool operator[](int i) const { return ((bits_ >> i) & 1) != 0; }

 private:
  int64_t bits_;
};

}  // namespace vae_ext
