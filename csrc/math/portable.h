// What the formulas need from the compiler: one spelling for host, vectorized host and device.
#pragma once

#include <math.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define VAE_EXT_INLINE __host__ __device__ __forceinline__
#else
#define VAE_EXT_INLINE inline __attribute__((always_inline))
#endif

// Before a loop of a few steps.
#if defined(__CUDA_ARCH__)
#define VAE_EXT_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__)  // its pass for the host
#define VAE_EXT_UNROLL
#else
#define VAE_EXT_UNROLL _Pragma("GCC unroll 32")
#endif

// The CPU kernels are compiled once per instruction set. Everything that they inline lives in an
// inline namespace of that name, so that the linker can never take the AVX-512 copy of a function
// for a caller that must run on an older processor.
// Set where a fused multiply-add is an instruction; g++ says so by itself only of its command line.
#if defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
#define VAE_EXT_FMA
#endif

#if !defined(VAE_EXT_LEVEL)
#define VAE_EXT_LEVEL generic
#endif
#define VAE_EXT_NAMESPACE_BEGIN \
  namespace vae_ext {           \
  inline namespace VAE_EXT_LEVEL {
#define VAE_EXT_NAMESPACE_END \
  }                           \
  }

VAE_EXT_NAMESPACE_BEGIN

VAE_EXT_INLINE uint32_t bits_of(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}

VAE_EXT_INLINE float float_of(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}

VAE_EXT_NAMESPACE_END
