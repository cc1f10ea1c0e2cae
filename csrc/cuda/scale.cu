// Gradients that were written before the incoming one was known, multiplied by it in place. No
// memory is touched where it is what they were written for: the kernel reads it and is done. Words
// moved per element otherwise: 1 read and 1 written.
#include <torch/csrc/stable/library.h>

#include "map.cuh"

namespace vae_ext {
namespace {

struct Scaling {
  static constexpr int kHeavy = 0, kHeavyWide = 0;
  static constexpr bool kCostly = false;
  Operand gradient, incoming;
  double expected;

  template <class F>
  void each_operand(F f) const {
    f(gradient), f(incoming);
  }

  bool fits(int) const { return true; }

  template <class V, ExpRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums&) const {
    using T = typename V::T;
    T x[V::kWidth];
    values<V>(gradient, fetch<V>(gradient, start), start, x);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) x[j] *= static_cast<T>(factor());
    store<V>(gradient, start, x);
    return true;
  }

  VAE_EXT_DEVICE double factor() const {
    return read_element<double>(incoming.data, incoming.storage, 0) / expected;
  }
};

template <class V>
__global__ void __launch_bounds__(kThreads, kMinBlocks<V, Scaling>)
    scale_kernel(VAE_EXT_PARAMETER Scaling body, int64_t numel) {
  if (body.factor() == 1) return;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * V::kWidth;
  NoSums none;
#pragma unroll 1
  for (int64_t start = first_of_thread<V>(); start < numel; start += step) {
    run_elements<V>(body, start, static_cast<int>(smaller(numel - start, V::kWidth)), none);
  }
}

// gradient: dense, in any order of its dimensions; incoming: one element.
void scale_gradient_(const Tensor& gradient, const Tensor& incoming, double expected) {
  STD_TORCH_CHECK(incoming.numel() == 1, "vae_ext: expected one element");
  const Launcher launcher(gradient);
  const ScalarType dtype = gradient.scalar_type();
  const int64_t numel = gradient.numel();
  const Shape flat{numel};
  const auto make = [&](int width) {
    return Scaling{Operand(gradient, flat, flat, {1}, width),
                   Operand(incoming, flat, {}, {}, width), expected};
  };
  with_variant(dtype, dtype == ScalarType::Double, 8, make, [&](auto variant, const Scaling& body) {
    using V = decltype(variant);
    // No more blocks than fill a chip: mostly there is nothing to do but to start them.
    launcher(scale_kernel<V>, std::min(blocks_for<V>(numel), kManyBlocks), body, numel);
  });
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  m.impl("scale_gradient_", TORCH_BOX(&vae_ext::scale_gradient_));
}
