// The arguments of an op of groups.def, the same on every device.
#pragma once

#include "../math/groups.h"
#include "stack.h"

namespace vae_ext {

struct GroupArguments {
  Tensor parameters, target;  // [count, *elements], and [*elements] or [channels, *elements]
  MaybeTensor weights;
  std::array<double, 2> numbers{};
  ResultSpec result;
  int64_t count;
  int channels;       // tensors of data that the target holds
  bool has_channels;  // in a dimension of their own

  bool is_double() const { return result.is_double(); }
  const Shape& elements() const { return result.plan.shape; }

  // That of the parameters, empty where it is not wanted.
  Tensor allocate_gradient(OutputMask mask) const {
    const ScalarType of_parameters = parameters.scalar_type();
    return mask[0] ? empty_like(parameters, of_parameters) : empty({0}, of_parameters, parameters);
  }

  // From result `first` on; the target has none.
  void give_gradients(Stack& stack, int first, const Tensor& found) const {
    stack.give(first, found);
    stack.give(first + 1, empty({0}, parameters.scalar_type(), parameters));
  }
};

template <class F>
GroupArguments take_group(Stack& stack) {
  const FormulaInputs in = stack.take_inputs<F>();
  const Tensor &parameters = *in.tensor[0], &target = *in.tensor[1];
  Shape elements = shape_of(parameters);
  STD_TORCH_CHECK(!elements.empty() && elements[0] > 0, "vae_ext: elements have no parameters");
  const int64_t count = elements[0];
  elements.erase(elements.begin());
  Shape of_target = shape_of(target);
  int channels = 1;
  if constexpr (!F::kClasses) {
    STD_TORCH_CHECK(!of_target.empty(), "vae_ext: the target has no channels");
    channels = static_cast<int>(of_target[0]);
    of_target.erase(of_target.begin());
    STD_TORCH_CHECK((channels == 1 && count % 3 == 0) || (channels == 3 && count % 10 == 0),
                    "vae_ext: parameters do not fit the channels");
  }
  STD_TORCH_CHECK(of_target == elements, "vae_ext: the target has other elements");
  STD_TORCH_CHECK(broadcast(elements, in.weights) == elements, "vae_ext: weights do not broadcast");
  ScalarType dtype = parameters.scalar_type();
  if (is_floating(storage_of(target.scalar_type()))) dtype = promote(dtype, target.scalar_type());
  ResultSpec result{ReductionPlan(std::move(elements), stack.take_reduction()), dtype};
  return {parameters,        target, in.weights, {in.number[2], in.number[3]},
          std::move(result), count,  channels,   !F::kClasses};
}

}  // namespace vae_ext
