#include "op.h"

#include <ATen/core/LegacyTypeDispatch.h>

#include <deque>
#include <utility>

namespace vae_ext {
namespace {

std::deque<Op>& ops() {
  static auto* found = new std::deque<Op>();
  return *found;
}

}  // namespace

const Op& op_of(int64_t number) { return ops().at(static_cast<size_t>(number)); }

int64_t add_op(Op op) {
  ops().push_back(std::move(op));
  return static_cast<int64_t>(ops().size()) - 1;
}

Stack arguments(at::TensorList tensors, const std::vector<IValue>& options) {
  Stack stack;
  stack.reserve(tensors.size() + options.size() + 4);
  for (const auto& t : tensors) stack.push_back(optional(t));
  stack.insert(stack.end(), options.begin(), options.end());
  return stack;
}

void run(const c10::OperatorHandle& op, Stack& stack) {
  const at::AutoDispatchBelowAutograd below;
  op.callBoxed(stack);
}

std::vector<at::Tensor> to_tensors(Stack& stack) {
  std::vector<at::Tensor> found;
  found.reserve(stack.size());
  for (auto& value : stack) found.push_back(std::move(value).toTensor());
  return found;
}

variable_list outputs_of(const Op& op, Call& call, Stack& stack) {
  const int64_t with = op.outputs_with_gradients(call.options);
  variable_list found;
  for (size_t i = 0; i < stack.size(); ++i) {
    auto& kept = bit(with, i) ? found : call.without_gradient;
    kept.push_back(std::move(stack[i]).toTensor());
  }
  return found;
}

}  // namespace vae_ext
