// The ops' autograd Functions once more, in C++: what Python needs for its Functions takes longer
// than a small batch. Unlike _C this is built against one version of torch, whose C++ interface has
// no stable ABI, and serves with it alone: vae_ext/_native/node.py says which, and the Functions of
// vae_ext/_autograd serve with all others, and whatever is rare here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "op_function.h"

namespace {

namespace py = pybind11;
using namespace vae_ext;

// ---- The nodes, by their ops

template <class T>
struct Named : torch::autograd::Function<T>, OpFunction {};

#define VAE_EXT_NODE(name) \
  struct name : Named<name> {};
#define VAE_EXT_LIKELIHOOD(name, formula, ...) VAE_EXT_NODE(formula##LogLikelihood)
#define VAE_EXT_DIVERGENCE(name, formula, ...) VAE_EXT_NODE(formula)
#define VAE_EXT_GROUP(name, formula, ...) VAE_EXT_NODE(formula##LogLikelihood)
#include "../ops/formulas.def"
#include "../ops/groups.def"
VAE_EXT_NODE(Reparameterize)
VAE_EXT_NODE(ReparameterizeWithKL)
VAE_EXT_NODE(Latent)
VAE_EXT_NODE(SampleWithLogDensities)
#undef VAE_EXT_NODE

template <class T>
variable_list apply_node(at::TensorList inputs, Call* call) {
  return T::apply(inputs, call);
}

const std::map<std::string, decltype(Op::apply)> kNodes{
#define VAE_EXT_LIKELIHOOD(name, formula, ...) \
  {#name "_log_likelihood", apply_node<formula##LogLikelihood>},
#define VAE_EXT_DIVERGENCE(name, formula, ...) {#name, apply_node<formula>},
#define VAE_EXT_GROUP(name, formula, ...) \
  {#name "_log_likelihood", apply_node<formula##LogLikelihood>},
#include "../ops/formulas.def"
#include "../ops/groups.def"
    {"reparameterize", apply_node<Reparameterize>},
    {"reparameterize_with_kl", apply_node<ReparameterizeWithKL>},
    {"latent", apply_node<Latent>},
    {"sample_with_log_densities", apply_node<SampleWithLogDensities>},
};

// ---- For Python

IValue to_ivalue(PyObject* value, bool floating) {
  if (value == Py_None) return {};
  if (PyFloat_Check(value)) return PyFloat_AS_DOUBLE(value);
  if (floating) {
    const double number = PyFloat_AsDouble(value);
    if (number == -1 && PyErr_Occurred()) throw python_error();
    return number;
  }
  if (PyLong_Check(value)) {
    const int64_t number = PyLong_AsLongLong(value);
    if (number == -1 && PyErr_Occurred()) throw python_error();
    return number;
  }
  c10::List<int64_t> numbers;
  for (const auto item : py::reinterpret_borrow<py::sequence>(value)) {
    numbers.push_back(item.cast<int64_t>());
  }
  return numbers;
}

PyObject* to_result(variable_list& with, variable_list& without, int64_t mask) {
  const size_t n = with.size() + without.size();
  if (n == 1) return THPVariable_Wrap(std::move(with.empty() ? without[0] : with[0]));
  PyObject* result = PyTuple_New(static_cast<Py_ssize_t>(n));
  if (result == nullptr) throw python_error();
  size_t a = 0, b = 0;
  for (size_t i = 0; i < n; ++i) {
    auto& output = bit(mask, i) ? with[a++] : without[b++];
    PyTuple_SET_ITEM(result, static_cast<Py_ssize_t>(i), THPVariable_Wrap(std::move(output)));
  }
  return result;
}

// apply(op, tensors, options, expected): the op of its tensors and numbers, with its derivative
// where one is needed; or NotImplemented where Python's Function has to serve.
PyObject* apply(PyObject*, PyObject* const* args, Py_ssize_t) {
  HANDLE_TH_ERRORS
  Call call{PyLong_AsLongLong(args[0]), {}, {}, {}, {}};
  const Op& op = op_of(call.op);
  const Py_ssize_t inputs = PyTuple_GET_SIZE(args[1]);
  call.tensors.resize(static_cast<size_t>(inputs));
  variable_list present;
  present.reserve(static_cast<size_t>(inputs));
  bool differentiable = false;
  for (Py_ssize_t i = 0; i < inputs; ++i) {
    PyObject* item = PyTuple_GET_ITEM(args[1], i);
    if (item == Py_None) continue;
    if (!THPVariable_CheckExact(item)) Py_RETURN_NOTIMPLEMENTED;
    const at::Tensor& t = THPVariable_Unpack(item);
    if (t.requires_grad() && at::GradMode::is_enabled()) {
      if (!bit(op.served, static_cast<size_t>(i))) Py_RETURN_NOTIMPLEMENTED;
      differentiable = true;
    }
    call.tensors[static_cast<size_t>(i)] = t;
    present.push_back(t);
  }
  const Py_ssize_t numbers = PyTuple_GET_SIZE(args[2]);
  call.options.reserve(static_cast<size_t>(numbers));
  for (Py_ssize_t i = 0; i < numbers; ++i) {
    call.options.push_back(
        to_ivalue(PyTuple_GET_ITEM(args[2], i), op.is_float[static_cast<size_t>(inputs + i)]));
  }
  if (args[3] != Py_None) call.expected = PyFloat_AsDouble(args[3]);
  const int64_t mask = op.outputs_with_gradients(call.options);
  variable_list outputs;
  {
    const py::gil_scoped_release no_gil;
    if (differentiable) {
      outputs = op.apply(present, &call);
    } else {
      Stack stack = arguments(call.tensors, call.options);
      run(op.forward, stack);
      outputs = outputs_of(op, call, stack);
    }
  }
  return to_result(outputs, call.without_gradient, mask);
  END_HANDLE_TH_ERRORS
}

bool is_tensor(const c10::Type& type) {
  if (type.kind() != c10::TypeKind::OptionalType) return type.kind() == c10::TypeKind::TensorType;
  return is_tensor(*type.expectRef<c10::OptionalType>().getElementType());
}

int64_t declare(const std::string& name, bool with_gradients, std::vector<int64_t> scalars,
                int64_t served, size_t first_saved, size_t outputs, size_t incoming,
                size_t left_out, std::vector<int64_t> differentiable, bool passes_through,
                const py::object& python) {
  const auto find = [&](const char* suffix) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(("vae_ext::" + name + suffix).c_str(),
                                                          "");
  };
  const c10::OperatorHandle op = find("");
  std::vector<bool> is_float;
  std::optional<size_t> seed;
  size_t tensors = 0;  // which come first
  for (const auto& argument : op.schema().arguments()) {
    if (argument.name() == "seed_value") seed = is_float.size() - tensors;
    is_float.push_back(argument.type()->kind() == c10::TypeKind::FloatType);
    tensors += is_tensor(*argument.type()) ? 1 : 0;
  }
  return add_op(Op{
      kNodes.at(name),
      op,
      find("_backward"),
      with_gradients ? std::optional(find("_with_gradients")) : std::nullopt,
      std::move(scalars),
      served,
      first_saved,
      outputs,
      incoming,
      left_out,
      std::move(differentiable),
      std::move(is_float),
      seed,
      passes_through,
      py::object(python).release().ptr(),
  });
}

}  // namespace

// Ops are declared once, by the import, and only read after it.
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m, py::mod_gil_not_used()) {
  m.doc() = "The nodes of vae_ext's ops in autograd's graph, for one version of torch";
  m.def("declare", &declare, py::kw_only(), py::arg("name"), py::arg("with_gradients"),
        py::arg("scalars"), py::arg("served"), py::arg("first_saved"), py::arg("outputs"),
        py::arg("incoming"), py::arg("left_out"), py::arg("differentiable"),
        py::arg("passes_through"), py::arg("by_python"),
        "An op's number, for apply(number, tensors, options, expected)");
  // METH_FASTCALL: pybind11's own call would take a microsecond of the three.
  static PyMethodDef methods[] = {
      {"apply", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&apply)), METH_FASTCALL,
       "The op of its tensors and numbers, or NotImplemented"},
      {nullptr, nullptr, 0, nullptr},
  };
  PyModule_AddFunctions(m.ptr(), methods);
}
