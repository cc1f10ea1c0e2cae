#pragma once

#include <torch/csrc/autograd/custom_function.h>

#include "op.h"

namespace vae_ext {

// The torch::autograd::Function of every op; types derived from it give nodes their names.
struct OpFunction {
  // The outputs that have gradients. `inputs` are the tensors that there are, for the graph.
  static variable_list forward(torch::autograd::AutogradContext* context, at::TensorList inputs,
                               Call* call);
  static variable_list backward(torch::autograd::AutogradContext* context,
                                const variable_list& grads);
};

}  // namespace vae_ext
