#include "levels.h"

#if defined(VAE_EXT_X86_LEVELS)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define VAE_EXT_LEVEL avx2
#define VAE_EXT_AVX2  // __AVX2__ is defined by the command line alone
#define VAE_EXT_FMA
#include "kernels.inl"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
