// The raw stream of random words, for tests. Words moved per element: 2 written, of 32 bits.
#include <torch/csrc/stable/library.h>

#include "../math/philox.h"
#include "launch.cuh"

namespace vae_ext {
namespace {

__global__ void __launch_bounds__(kThreads, 1)
    words_kernel(int64_t* out, int64_t n, uint64_t seed, uint64_t stream) {
  const int64_t block = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (4 * block >= n) return;
  const PhiloxBlock b = philox_block(seed, stream, static_cast<uint64_t>(block));
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (4 * block + j < n) out[4 * block + j] = b.word[j];
  }
}

// out [n] int64 holds the words of elements 0 ... n - 1.
void philox_words(const Tensor& out, int64_t seed, int64_t stream) {
  STD_TORCH_CHECK(out.scalar_type() == ScalarType::Long && out.is_contiguous(),
                  "vae_ext: the words go to a contiguous int64 tensor");
  const Launcher launcher(out);
  launcher(words_kernel, ceil_div(ceil_div(out.numel(), 4), kThreads),
           static_cast<int64_t*>(out.mutable_data_ptr()), out.numel(), static_cast<uint64_t>(seed),
           static_cast<uint64_t>(stream));
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  m.impl("philox_words", TORCH_BOX(&vae_ext::philox_words));
}
