// float16 and bfloat16 as bits, to and from float, branch-free and rounding to nearest even.
// The float16 routines are Marat Dukhan's (the FP16 library, MIT), which let the floating-point
// unit do the rounding and the subnormals.
#pragma once

#include "portable.h"

VAE_EXT_NAMESPACE_BEGIN

VAE_EXT_INLINE float float_of_bfloat16(uint16_t h) {
  return float_of(static_cast<uint32_t>(h) << 16);
}

VAE_EXT_INLINE uint16_t bfloat16_of_float(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

VAE_EXT_INLINE float float_of_half(uint16_t h) {
#if defined(__CUDA_ARCH__)
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
#else
  const uint32_t w = static_cast<uint32_t>(h) << 16;
  const uint32_t sign = w & 0x80000000u;
  const uint32_t two_w = w + w;
  const float normalized = float_of((two_w >> 4) + (0xE0u << 23)) * 0x1p-112f;
  const float denormalized = float_of((two_w >> 17) | (126u << 23)) - 0.5f;
  return float_of(sign | (two_w < (1u << 27) ? bits_of(denormalized) : bits_of(normalized)));
#endif
}

VAE_EXT_INLINE uint16_t half_of_float(float x) {
  const uint32_t w = bits_of(x);
  const uint32_t shl1_w = w + w;
  const uint32_t sign = w & 0x80000000u;
  const uint32_t exponent = shl1_w & 0xFF000000u;
  const uint32_t bias = exponent < 0x71000000u ? 0x71000000u : exponent;
  const float base = (float_of(w & 0x7fffffffu) * 0x1p+112f) * 0x1p-110f;
  const uint32_t bits = bits_of(float_of((bias >> 1) + 0x07800000u) + base);
  const uint32_t nonsign = ((bits >> 13) & 0x00007C00u) + (bits & 0x00000FFFu);
  return static_cast<uint16_t>((sign >> 16) | (shl1_w > 0xFF000000u ? 0x7E00u : nonsign));
}

// Two floats as the halves of a word, the first in its low bits: an instruction, where there is
// one.
VAE_EXT_INLINE uint32_t pair_of_bfloat16(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return bfloat16_of_float(low) | (static_cast<uint32_t>(bfloat16_of_float(high)) << 16);
#endif
}
VAE_EXT_INLINE uint32_t pair_of_half(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return half_of_float(low) | (static_cast<uint32_t>(half_of_float(high)) << 16);
#endif
}

VAE_EXT_NAMESPACE_END
