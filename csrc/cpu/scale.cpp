// Gradients that were written before the incoming one was known, multiplied by it in place, unless
// it is what they were written for.
#include <torch/csrc/stable/library.h>

#include "chunks.h"

namespace vae_ext {
namespace {

template <class T>
void scale_in_place(const Tensor& gradient, double factor) {
  const Output<T> out(gradient);
  const Input<T> in(gradient, shape_of(gradient));
  parallel_tiles(gradient.numel(), [&](int64_t start, int n) {
    alignas(64) T buffer[kTile];
    const T* from = in.tile(start, n, buffer);
    T* to = out.begin(start, n, buffer);
    for (int i = 0; i < n; ++i) to[i] = from[i] * static_cast<T>(factor);
    out.finish(start, n, to, buffer);
  });
}

void scale_gradient_(const Tensor& gradient, const Tensor& incoming, double expected) {
  STD_TORCH_CHECK(incoming.numel() == 1, "vae_ext: expected one element");
  double value = 0;
  kernels<double>().load(1, storage_of(incoming.scalar_type()), incoming.const_data_ptr(), 1,
                         &value);
  if (value == expected) return;
  const bool is_double = gradient.scalar_type() == ScalarType::Double;
  (is_double ? scale_in_place<double> : scale_in_place<float>)(gradient, value / expected);
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("scale_gradient_", TORCH_BOX(&vae_ext::scale_gradient_));
}
