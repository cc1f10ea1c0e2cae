// Gradients that were written before the incoming one was known, multiplied by it in place, unless
// it is what they were written for.
#include <torch/csrc/stable/library.h>

#include "chunks.h"

namespace vae_ext {
namespace {

// Dense, in any order of its dimensions.
template <class T>
void scale_in_place(const Tensor& gradient, double factor) {
  const Storage storage = storage_of(gradient.scalar_type());
  auto* data = static_cast<char*>(gradient.mutable_data_ptr());
  parallel_tiles(gradient.numel(), [&](int64_t start, int n) {
    alignas(64) T buffer[kTile];
    char* at = data + start * size_of(storage);
    const bool in_place = storage == kStorageOf<T>;
    T* x = in_place ? reinterpret_cast<T*>(at) : buffer;
    if (!in_place) kernels<T>().load(n, storage, at, 1, buffer);
    for (int i = 0; i < n; ++i) x[i] *= static_cast<T>(factor);
    if (!in_place) kernels<T>().store(n, storage, buffer, at, 1);
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
