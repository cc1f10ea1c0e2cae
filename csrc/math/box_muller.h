// Normals from the words of Philox: the radius, and the sine and cosine of a turn.
#pragma once

#include "elementary.h"

VAE_EXT_NAMESPACE_BEGIN

// -log(u) of the uniform u = (word + 1/2) / 2^32. Near u = 1 the float nearest to u has lost
// -log(u) altogether; the integer has not.
template <class T>
VAE_EXT_INLINE T minus_log_uniform(uint32_t word);

template <>
VAE_EXT_INLINE float minus_log_uniform<float>(uint32_t word) {
  // u below 1/2 and u - 1 above it: as a signed number the word is already one or the other.
  const int32_t number = static_cast<int32_t>(word);
  const float x = static_cast<float>(number) * 0x1p-32f + 0x1p-33f;
  const float u = x + float_of(static_cast<uint32_t>(number >> 31) & 0x3f800000u);  // + 1 or 0
  // u = 2^k (1 + f), sqrt(1/2) <= 1 + f: from the bits of u, but where k is 0, and so u above 1/2,
  // f is x, which has not been rounded.
  const uint32_t sqrt_half = 0x3f3504f3u;
  const uint32_t offset = bits_of(u) - sqrt_half;
  const int32_t exponent = static_cast<int32_t>(offset) >> 23;
  const float m = float_of((offset & 0x7fffffu) + sqrt_half) - 1.f;
  const float f = exponent == 0 ? x : m;
  const float k = static_cast<float>(exponent);
  return -((k * 0x1.63p-1f + f) + (k * -0x1.bd0106p-13f + log1p_less_f(f)));
}

template <>
VAE_EXT_INLINE double minus_log_uniform<double>(uint32_t word) {
  return -log((static_cast<double>(word) + 0.5) * 0x1p-32);
}

// The square of Box-Muller's radius, -2 log(u).
template <class T>
VAE_EXT_INLINE T radius_squared(uint32_t word) {
  return T(2) * minus_log_uniform<T>(word);
}
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
template <>
VAE_EXT_INLINE float radius_squared<float>(uint32_t word) {
  // Near u = 1, where the logarithm of the float has no digits left, its series in u - 1.
  const float x = static_cast<float>(static_cast<int32_t>(word)) * 0x1p-32f + 0x1p-33f;
  const float u = static_cast<float>(word) * 0x1p-32f + 0x1p-33f;
  const float c[] = {-2.f, 0x1.fff7ccp-1f, -0x1.5d8328p-1f};
  return word >= 0xf8000000u ? x * polynomial(c, x) : -0x1.62e43p+0f * hardware_log2(u);
}
#endif

// sin and cos of pi/4 x, |x| <= 1.
VAE_EXT_INLINE void sincos_octant(float x, float* sine, float* cosine) {
  const float p[] = {-0x1.4abbcep-4f, 0x1.466bc2p-9f, -0x1.32ce1ep-15f, 0x1.4cb762p-22f};
  const float q[] = {-0x1.3bd3ccp-2f, 0x1.03c1eap-6f, -0x1.55cb98p-12f, 0x1.db6492p-19f};
  const float z = x * x;
  *sine = x * 0x1.921fb6p-1f + x * (z * polynomial(p, z) - 0x1.777a5cp-26f);
  *cosine = 1.f + z * polynomial(q, z);
}

VAE_EXT_INLINE void sincos_octant(double x, double* sine, double* cosine) {
#if defined(__CUDA_ARCH__)
  sincospi(0.25 * x, sine, cosine);  // CUDA's sin has a path for large arguments, on the stack
#else
  const double angle = x * 0.78539816339744830962;
  *sine = sin(angle);
  *cosine = cos(angle);
#endif
}

// x with its sign flipped where the top bit of `sign` is set.
VAE_EXT_INLINE float flip_sign(float x, uint32_t sign) {
  return float_of(bits_of(x) ^ (sign & 0x80000000u));
}
VAE_EXT_INLINE double flip_sign(double x, uint32_t sign) { return sign >> 31 ? -x : x; }

// sin and cos of 2 pi word / 2^32; the quadrant is taken off in integers, exactly.
template <class T>
VAE_EXT_INLINE void sincos_turn(uint32_t word, T* sine, T* cosine) {
  const uint32_t shifted = word + 0x20000000u;  // quadrant in the top two bits
  const int32_t rest = static_cast<int32_t>(word << 2);
  T s, c;
  sincos_octant(static_cast<T>(rest) * T(0x1p-31), &s, &c);
  const bool swap = (shifted & 0x40000000u) != 0;
  *sine = flip_sign(swap ? c : s, shifted);
  *cosine = flip_sign(swap ? s : c, shifted + 0x40000000u);
}

// Times r. On a GPU there is no quadrant to choose between: the polynomials reach over half a turn,
// whose other half is the sign of r.
template <class T>
VAE_EXT_INLINE void sincos_turn_times(uint32_t word, T r, T* sine, T* cosine) {
  T s, c;
  sincos_turn(word, &s, &c);
  *sine = r * s;
  *cosine = r * c;
}
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
template <>
VAE_EXT_INLINE void sincos_turn_times(uint32_t word, float r, float* sine, float* cosine) {
  const float p[] = {0x1.921fb6p+0f, -0x1.4abbc4p-1f, 0x1.4668fp-4f, -0x1.32531ep-8f,
                     0x1.3e142p-13f};
  const float q[] = {
      1.f, -0x1.3bd3ccp+0f, 0x1.03c1eep-2f, -0x1.55d24ap-6f, 0x1.e16eacp-11f, -0x1.937d98p-16f};
  const float y = static_cast<float>(static_cast<int32_t>(word << 1)) * 0x1p-31f, z = y * y;
  r = flip_sign(r, word + 0x40000000u);
  *sine = r * (y * polynomial(p, z));
  *cosine = r * polynomial(q, z);
}
#endif

// Two independent standard normals from two words: the even and the odd element of a pair.
template <class T>
VAE_EXT_INLINE void box_muller(uint32_t word_even, uint32_t word_odd, T* even, T* odd) {
  const T radius = square_root(radius_squared<T>(word_even));
  sincos_turn_times(word_odd, radius, odd, even);
}

VAE_EXT_NAMESPACE_END
