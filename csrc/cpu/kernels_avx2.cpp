#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma,f16c")
#define VAE_EXT_LEVEL avx2
#define VAE_EXT_AVX2  // g++ does not define __AVX2__ after the pragma
#define VAE_EXT_FMA
#include "kernels.inl"
#endif
