// What a GPU has instructions for, of which the formulas make use: approximations, each with the
// error that NVIDIA states. Other processors have polynomials instead.
#pragma once

#include "portable.h"

#if defined(__CUDA_ARCH__)
#define VAE_EXT_HARDWARE_FUNCTIONS

VAE_EXT_NAMESPACE_BEGIN

// 2^x: 2 units in the last place. A subnormal result is 0.
VAE_EXT_INLINE float hardware_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// log2(x): 2^-22 for x between 1/2 and 2, elsewhere 1 unit in the last place.
VAE_EXT_INLINE float hardware_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1 / x: 1 unit in the last place.
VAE_EXT_INLINE float hardware_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// sqrt(x): 2^-23 of it.
VAE_EXT_INLINE float hardware_sqrt(float x) {
  float y;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// |x| < edge ? below : beyond, both of which are there: no jump, over which a warp goes twice.
VAE_EXT_INLINE float hardware_choice(float x, float edge, float below, float beyond) {
  float y;
  asm("{.reg .pred p; setp.lt.f32 p, %1, %2; selp.f32 %0, %3, %4, p;}"
      : "=f"(y)
      : "f"(fabsf(x)), "f"(edge), "f"(below), "f"(beyond));
  return y;
}

VAE_EXT_NAMESPACE_END
#endif
