#include "op_function.h"

#include <ATen/SavedTensorHooks.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace vae_ext {
namespace {

namespace py = pybind11;
using torch::autograd::AutogradContext;

// What a node keeps besides the inputs. Compiled autograd takes tensors and the seed from here as
// arguments of its program, and all else, the call, as a constant of it.
constexpr auto kCall = "call", kSeed = "seed";
constexpr std::array kAhead{"ahead 0", "ahead 1", "ahead 2", "ahead 3", "ahead 4"};

IValue to_tuple(const IValue& list) {
  std::vector<IValue> values;
  for (const int64_t n : list.toIntVector()) values.emplace_back(n);
  return c10::ivalue::Tuple::create(std::move(values));
}

IValue to_list(const IValue& tuple) {
  c10::List<int64_t> values;
  for (const IValue& n : tuple.toTupleRef().elements()) values.push_back(n.toInt());
  return values;
}

// The same, as backward reads it.
struct SavedCall {
  const Op* op;
  std::vector<IValue> options;
  std::optional<double> expected;  // if the value and the gradients were one pass
  std::vector<at::Tensor> ahead;   // the gradients that it wrote, until they are taken
};

void save(AutogradContext* context, Call& call, const std::vector<at::Tensor>& ahead) {
  const Op& op = op_of(call.op);
  context->save_for_backward(at::TensorList(call.tensors).slice(op.first_saved).vec());
  auto& data = context->saved_data;
  for (size_t i = 0; i < ahead.size(); ++i) data[kAhead.at(i)] = ahead[i];
  if (op.seed) data[kSeed] = std::exchange(call.options[*op.seed], IValue());
  std::vector<IValue> saved{call.op, ahead.empty() ? IValue() : IValue(*call.expected)};
  for (IValue& option : call.options) {  // a list is no constant, but a tuple is
    saved.push_back(option.isIntList() ? to_tuple(option) : std::move(option));
  }
  data[kCall] = c10::ivalue::Tuple::create(std::move(saved));
}

// Gradients that were written ahead are given away.
SavedCall take(AutogradContext* context) {
  auto& data = context->saved_data;
  const auto tuple = data.at(kCall).toTuple();
  const auto& saved = tuple->elements();
  SavedCall call{&op_of(saved[0].toInt()), {}, {}, {}};
  for (auto option = saved.begin() + 2; option != saved.end(); ++option) {
    call.options.push_back(option->isTuple() ? to_list(*option) : *option);
  }
  if (call.op->seed) call.options[*call.op->seed] = data.at(kSeed);
  if (saved[1].isNone()) return call;
  call.expected = saved[1].toDouble();
  for (const auto* name : kAhead) {
    const auto found = data.find(name);
    if (found == data.end()) break;
    call.ahead.push_back(std::move(found->second).toTensor());
    data.erase(found);
  }
  return call;
}

// ---- Forward ------------------------------------------------------------------------------------

bool in_one_pass(const Op& op, const Call& call) {
  if (!op.with_gradients || !call.expected) return false;
  const int64_t reduction = call.options.back().toInt();
  if (std::find(op.scalars.begin(), op.scalars.end(), reduction) == op.scalars.end()) return false;
  // Who hooks what is saved (checkpointing, offloading) decides what is kept.
  if (at::SavedTensorDefaultHooks::get_hooks(/*ignore_is_tracing=*/true)) return false;
  return std::none_of(call.tensors.begin(), call.tensors.end(), [](const at::Tensor& t) {
    // In float16 a mean's gradients underflow before a loss scale could save them.
    return t.defined() && t.requires_grad() && (t.scalar_type() == at::kHalf || t.numel() == 0);
  });
}

// A value, and the gradients for the incoming one that is expected.
std::pair<at::Tensor, std::vector<at::Tensor>> value_and_gradients(
    const Op& op, at::TensorList tensors, const std::vector<IValue>& options, double expected,
    int64_t needed) {
  Stack stack = arguments(tensors, options);
  stack.emplace_back(expected);
  stack.emplace_back(needed);
  run(*op.with_gradients, stack);
  std::vector<at::Tensor> gradients = to_tensors(stack);
  at::Tensor value = std::move(gradients.front());
  gradients.erase(gradients.begin());
  return {std::move(value), std::move(gradients)};
}

// ---- Backward -----------------------------------------------------------------------------------

// True where plain numbers are not all that is asked for.
bool is_for_python(const Op& op, const variable_list& incoming) {
  if (at::GradMode::is_enabled() || c10::impl::TorchDispatchModeTLS::any_modes_set()) return true;
  const auto included = c10::impl::tls_local_dispatch_key_set().included_;
  if (included.has(c10::DispatchKey::FuncTorchDynamicLayerFrontMode)) return true;
  for (size_t i = 0; i < incoming.size(); ++i) {
    if (!incoming[i].defined()) continue;
    const auto keys = incoming[i].key_set();
    if (i >= op.incoming || keys.has(c10::DispatchKey::Batched) ||
        keys.has(c10::DispatchKey::Python)) {
      return true;
    }
  }
  return false;
}

py::tuple to_python(const variable_list& tensors) {
  py::tuple found(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    found[i] = py::reinterpret_steal<py::object>(THPVariable_Wrap(tensors[i]));
  }
  return found;
}

py::object to_python(const IValue& value) {
  if (value.isNone()) return py::none();
  if (value.isDouble()) return py::float_(value.toDouble());
  if (value.isInt()) return py::int_(value.toInt());
  py::list found;
  for (const int64_t n : value.toIntVector()) found.append(py::int_(n));
  return found;
}

variable_list by_python(const SavedCall& call, int64_t needed, size_t inputs,
                        const variable_list& saved, const variable_list& incoming) {
  const py::gil_scoped_acquire gil;
  py::tuple asked(inputs);
  for (size_t i = 0; i < inputs; ++i) asked[i] = py::bool_(bit(needed, i));
  py::tuple options(call.options.size());
  for (size_t i = 0; i < call.options.size(); ++i) options[i] = to_python(call.options[i]);
  const auto result = py::reinterpret_steal<py::object>(
      PyObject_CallFunctionObjArgs(call.op->by_python, asked.ptr(), to_python(saved).ptr(),
                                   options.ptr(), to_python(incoming).ptr(), nullptr));
  if (!result) {
    python_error error;
    error.persist();  // it is raised in the thread that waits for this one
    throw error;
  }
  variable_list found(inputs);
  for (size_t i = 0; i < inputs; ++i) {
    const py::object gradient = py::reinterpret_borrow<py::tuple>(result)[i];
    if (!gradient.is_none()) found[i] = THPVariable_Unpack(gradient.ptr());
  }
  return found;
}

const c10::OperatorHandle& scale_gradient() {
  static const auto found =
      c10::Dispatcher::singleton().findSchemaOrThrow("vae_ext::scale_gradient_", "");
  return found;
}

// Those that were written ahead, for the gradient that came. In a second backward pass they are
// computed again, with the same roundings.
std::vector<at::Tensor> written_ahead(SavedCall& call, int64_t needed, const variable_list& saved,
                                      const at::Tensor& grad) {
  std::vector<at::Tensor> found = std::move(call.ahead);
  if (found.empty()) {
    found = value_and_gradients(*call.op, saved, call.options, *call.expected, needed).second;
  }
  // Elsewhere than on the CPU the kernel looks whether it is what was expected.
  if (grad.is_cpu() && grad.item<double>() == *call.expected) return found;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!bit(needed, i)) continue;
    Stack stack{found[i], grad, *call.expected};
    run(scale_gradient(), stack);
  }
  return found;
}

std::vector<at::Tensor> by_backward_op(const SavedCall& call, int64_t needed,
                                       const variable_list& saved, const variable_list& incoming) {
  const Op& op = *call.op;
  Stack stack;
  stack.reserve(op.incoming + saved.size() + call.options.size() + 1);
  for (size_t i = 0; i < op.incoming; ++i) stack.push_back(optional(incoming[i]));
  for (const auto& t : saved) stack.push_back(optional(t));
  const size_t taken = call.options.size() - op.left_out;
  for (size_t i = 0; i < taken; ++i) stack.push_back(call.options[i]);
  stack.emplace_back(needed);
  run(op.backward, stack);
  return to_tensors(stack);
}

// The gradients of all inputs, undefined where they are not needed.
variable_list gradients_of(SavedCall& call, int64_t needed, const variable_list& saved,
                           const variable_list& incoming) {
  const Op& op = *call.op;
  const size_t inputs = op.first_saved + saved.size();
  if (is_for_python(op, incoming)) return by_python(call, needed, inputs, saved, incoming);
  variable_list gradients(inputs);
  if (op.passes_through && call.options.back().toInt() == 0) {
    if (bit(needed, 0)) gradients[0] = incoming[0];
    needed &= ~int64_t{1};
    if (needed == 0) return gradients;
  }
  auto found = call.expected ? written_ahead(call, needed, saved, incoming[0])
                             : by_backward_op(call, needed, saved, incoming);
  for (size_t i = 0; i < found.size(); ++i) {
    if (bit(needed, i)) gradients[i] = std::move(found[i]);
  }
  return gradients;
}

}  // namespace

variable_list OpFunction::forward(AutogradContext* context, at::TensorList /*inputs*/, Call* call) {
  const Op& op = op_of(call->op);
  context->set_materialize_grads(false);  // an output that is not used costs nothing
  if (!in_one_pass(op, *call)) {
    Stack stack = arguments(call->tensors, call->options);
    run(op.forward, stack);
    variable_list outputs = outputs_of(op, *call, stack);
    save(context, *call, {});
    return outputs;
  }
  int64_t needed = 0;
  for (size_t i = 0; i < call->tensors.size(); ++i) {
    const at::Tensor& t = call->tensors[i];
    needed |= int64_t{t.defined() && t.requires_grad()} << i;
  }
  const auto [value, ahead] =
      value_and_gradients(op, call->tensors, call->options, *call->expected, needed);
  save(context, *call, ahead);
  return {value};
}

variable_list OpFunction::backward(AutogradContext* context, const variable_list& grads) {
  const variable_list saved = context->get_saved_variables();  // raises if they were modified
  SavedCall call = take(context);
  const Op& op = *call.op;
  const size_t inputs = op.first_saved + saved.size();

  variable_list incoming(op.outputs);
  const int64_t with = op.outputs_with_gradients(call.options);
  for (size_t i = 0, next = 0; i < op.outputs; ++i) {
    if (bit(with, i)) incoming[i] = grads[next++];
  }
  // The graph has only the tensors that were given; what is not kept was.
  const auto was_given = [&](size_t i) {
    return i < op.first_saved || saved[i - op.first_saved].defined();
  };
  int64_t needed = 0;
  size_t edges = 0;
  for (size_t i = 0; i < inputs; ++i) {
    if (was_given(i)) needed |= int64_t{context->needs_input_grad(edges++)} << i;
  }
  variable_list result(edges + 1);  // the call itself is an argument, too
  if (std::none_of(grads.begin(), grads.end(), [](const auto& g) { return g.defined(); })) {
    return result;
  }
  auto found = gradients_of(call, needed, saved, incoming);
  for (size_t i = 0, next = 0; i < inputs; ++i) {
    if (was_given(i)) result[next++] = std::move(found[i]);
  }
  return result;
}

}  // namespace vae_ext
