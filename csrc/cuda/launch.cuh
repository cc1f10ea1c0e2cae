// The only place that knows devices, streams, grids and launch errors.
#pragma once

#if defined(VAE_EXT_CUDA_ON_HOST)
#include "../testing/cuda_on_host.h"
#define VAE_EXT_DEVICE inline
#define VAE_EXT_DISPATCH_KEY CPU
#else
#include <cuda_runtime.h>
#define VAE_EXT_DEVICE __device__ __forceinline__
#define VAE_EXT_DISPATCH_KEY CUDA
#endif

#include <torch/csrc/stable/accelerator.h>

#include <tuple>

#include "../ops/tensors.h"
#include "launch_config.cuh"

namespace vae_ext {

// Kernels that go to the current stream of a tensor's device, which is the current device for as
// long as this lives.
class Launcher {
 public:
#if defined(VAE_EXT_CUDA_ON_HOST)
  explicit Launcher(const Tensor&) {}
#else
  explicit Launcher(const Tensor& on) : guard_(device_index(on)) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_index(on), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
#endif

  // Nothing is launched for an empty grid, which CUDA would refuse.
  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks,
                  const Arguments&... arguments) const {
    if (blocks == 0) return;
    STD_TORCH_CHECK(blocks <= INT32_MAX, "vae_ext: a tensor too large for one grid");
#if defined(VAE_EXT_CUDA_ON_HOST)
    SimulatedBlock::run(static_cast<unsigned>(blocks), kThreads, [&] { kernel(arguments...); });
#else
    // Not by <<<>>>, whose error cudaGetLastError() has, beside those of others.
    std::tuple<std::decay_t<Parameters>...> parameters(arguments...);
    const cudaError_t error = std::apply(
        [&](auto&... each) {
          void* pointers[] = {&each...};
          return cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                                  dim3(static_cast<unsigned>(blocks)), dim3(kThreads), pointers, 0,
                                  stream_);
        },
        parameters);
    STD_TORCH_CHECK(error == cudaSuccess,
                    "vae_ext: a kernel did not start: ", cudaGetErrorString(error));
#endif
  }

 private:
#if !defined(VAE_EXT_CUDA_ON_HOST)
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
#endif
};

}  // namespace vae_ext
