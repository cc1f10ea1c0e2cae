// What the node of an op has to know, and a call of one.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <vector>

namespace vae_ext {

using c10::IValue;
using torch::autograd::variable_list;
using torch::jit::Stack;

inline IValue optional(const at::Tensor& t) { return t.defined() ? IValue(t) : IValue(); }
inline bool bit(int64_t mask, size_t i) { return (mask >> i & 1) != 0; }

// A call of an op, as Python gives it.
struct Call {
  int64_t op;
  variable_list tensors;  // undefined where there is none
  std::vector<IValue> options;
  std::optional<double> expected;  // the incoming gradient that is written ahead for
  variable_list without_gradient;  // the outputs that have none
};

// An op; vae_ext/_native/node.py declares them.
struct Op {
  variable_list (*apply)(at::TensorList inputs, Call* call);  // with a node
  c10::OperatorHandle forward;
  c10::OperatorHandle backward;
  std::optional<c10::OperatorHandle> with_gradients;  // the value and its gradients in one pass
  std::vector<int64_t> scalars;                       // the reductions for which there is that
  int64_t served;      // bit i: input i has a gradient, which the backward op gives
  size_t first_saved;  // the inputs before it are not kept
  size_t outputs;
  size_t incoming;  // the first outputs, whose gradients the backward op takes
  size_t left_out;  // of the options, at their end, which the backward op does not take
  std::vector<int64_t> differentiable;  // bit i: output i, by the last option; where empty, all
  std::vector<bool> is_float;           // the arguments that are
  std::optional<size_t> seed;           // which option is the seed, another at every call
  bool passes_through;                  // the gradient of a single sample is that of its mean
  // Gradients by Python, of (needed, saved, options, incoming): to be differentiated again, or of
  // tensors that are more than numbers.
  PyObject* by_python;

  int64_t outputs_with_gradients(const std::vector<IValue>& options) const {
    return differentiable.empty() ? ~int64_t{0} : differentiable.at(options.back().toInt());
  }
};

// By its number; they live as long as the process.
const Op& op_of(int64_t number);
int64_t add_op(Op op);

// The op of its tensors and numbers past the dispatcher's autograd: the stack holds its results.
void run(const c10::OperatorHandle& op, Stack& stack);
Stack arguments(at::TensorList tensors, const std::vector<IValue>& options);
std::vector<at::Tensor> to_tensors(Stack& stack);
// The outputs that have gradients; the others are the call's.
variable_list outputs_of(const Op& op, Call& call, Stack& stack);

}  // namespace vae_ext
