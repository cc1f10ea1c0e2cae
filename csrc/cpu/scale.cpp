// Gradients that were written before the incoming one was known, multiplied by it in place, unless
// it is what they were written for.
#include <torch/csrc/stable/library.h>

#include "reduce.h"

namespace vae_ext {
namespace {

void scale_gradient_(const Tensor& gradient, const Tensor& incoming) {
  STD_TORCH_CHECK(incoming.numel() == 1, "vae_ext: expected one element");
  double value = 0;
  kernels<double>().load(1, storage_of(incoming.scalar_type()), incoming.const_data_ptr(), 1,
                         &value);
  if (value == kExpectedGradient) return;
  const bool wide = gradient.scalar_type() == ScalarType::Double;
  (wide ? scale_in_place<double> : scale_in_place<float>)(gradient, value / kExpectedGradient);
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("scale_gradient_", TORCH_BOX(&vae_ext::scale_gradient_));
}
