// Logarithms, what is left of lgamma and digamma beside their leading terms, and other functions
// that a likelihood or two need. In the manner of elementary.h: total, and free of branches in
// float.
#pragma once

#include "elementary.h"

VAE_EXT_NAMESPACE_BEGIN

// log(x 2^-scale) of a normal number x > 0.
VAE_EXT_INLINE float log_of_normal(float x, int32_t scale = 0) {
  const uint32_t sqrt_half = 0x3f3504f3u, offset = bits_of(x) - sqrt_half;
  // x = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2)
  const float f = float_of((offset & 0x7fffffu) + sqrt_half) - 1.f;
  const float k = static_cast<float>((static_cast<int32_t>(offset) >> 23) - scale);
  return (k * 0x1.63p-1f + f) + (k * -0x1.bd0106p-13f + log1p_less_f(f));
}
VAE_EXT_INLINE double log_of_normal(double x) { return log(x); }

// log(x): -inf of 0, NaN of negative numbers.
VAE_EXT_INLINE float log_of(float x) {
  const bool subnormal = x < 0x1p-126f;
  const float log_x = log_of_normal(subnormal ? x * 0x1p24f : x, subnormal ? 24 : 0);
  const float edge = x == 0.f ? -INFINITY : NAN;
  return x > 0.f ? (x < INFINITY ? log_x : x) : edge;
}
VAE_EXT_INLINE double log_of(double x) { return log(x); }

// log(x) where it is good enough that the error is 2^-22 between 1/2 and 2: a term beside others,
// or what is chosen elsewhere only.
VAE_EXT_INLINE float log_far(float x) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  return hardware_log2(x) * 0x1.62e43p-1f;
#else
  return log_of(x);
#endif
}
VAE_EXT_INLINE double log_far(double x) { return log(x); }

// The same for x >= 1.
VAE_EXT_INLINE float log_from_one(float x) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  return log_far(x);
#else
  return x < INFINITY ? log_of_normal(x) : x;
#endif
}
VAE_EXT_INLINE double log_from_one(double x) { return log(x); }

// a / b, where b is not subnormal and 1 / b not either; inf and NaN are those of a division.
VAE_EXT_INLINE float ratio(float a, float b) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  const float r = hardware_reciprocal(b), q = a * r;
  const float refined = fmaf(fmaf(-q, b, a), r, q);
  return refined == refined ? refined : q;
#else
  return a / b;
#endif
}
VAE_EXT_INLINE double ratio(double a, double b) { return a / b; }

// log(1 + x) for x > -1, relative to the value. NaN below.
template <class T>
VAE_EXT_INLINE T log1p_of(T x) {
  // What rounding 1 + x has lost; beyond 1e10 that is nothing, and at inf it would be NaN.
  const T whole = T(1) + x;
  const T lost = x < T(1e10) ? x - (whole - T(1)) : T(0);
  return log_of(whole) + lost / whole;
}
template <>
VAE_EXT_INLINE double log1p_of(double x) {
  return log1p(x);
}

// exp(x) and exp(x) - 1 for x <= 0.
VAE_EXT_INLINE float exp_nonpositive(float x) {
  const ExpParts e = split_exp(x < -104.f ? -104.f : x);
  const int32_t half = e.k / 2;  // in two steps, so that only the last can be subnormal
  return (1.f + e.expm1_r) * power_of_two(e.k - half) * power_of_two(half);
}
VAE_EXT_INLINE double exp_nonpositive(double x) { return exp(x); }
VAE_EXT_INLINE float expm1_nonpositive(float x) {
  const float bounded = x < -kBoundedExponent ? -kBoundedExponent : x;
  const ExpParts e = split_exp(bounded);
  const float s = power_of_two(e.k);
  return multiply_add(s, e.expm1_r, s - 1.f);
}
VAE_EXT_INLINE double expm1_nonpositive(double x) { return expm1(x); }

// log(sinh(a / 2) / (a / 2)) and its derivative, 0 <= a <= 2, by their series in a^2.
VAE_EXT_INLINE float log_sinhc(float a) {
  const float c[] = {0x1.555556p-5f,   -0x1.6c16cp-12f, 0x1.71dce2p-18f,
                     -0x1.bb7a88p-24f, 0x1.192f2ep-29f, -0x1.2d2d0ep-35f};
  return a * a * polynomial(c, a * a);
}
VAE_EXT_INLINE float log_sinhc_slope(float a) {
  const float c[] = {0x1.555556p-4f,   -0x1.6c16bcp-10f, 0x1.156466p-15f,
                     -0x1.bb3a1ep-21f, 0x1.5ce65cp-26f,  -0x1.b174dep-32f};
  return a * polynomial(c, a * a);
}
// In double the derivative's terms are those of the logarithm, times their exponents.
VAE_EXT_INLINE double log_sinhc_terms(double z, bool slope) {
  const double c[] = {0.041666666666666667,    -0.00034722222222222222, 5.5114638447971781e-6,
                      -1.0333994708994709e-7,  2.0876756987868099e-9,   -4.4034917822395777e-11,
                      9.5589546647747706e-13,  -2.1185501852016143e-14, 4.7700344757099136e-16,
                      -1.0874343492790309e-17, 2.5040921947091952e-19,  -5.8143602857552181e-21,
                      1.3595027075497952e-22,  -3.1976847953705524e-24, 7.5598415077922769e-26,
                      -1.7952470840225633e-27};
  double sum = 0;
  VAE_EXT_UNROLL
  for (int i = 15; i >= 0; --i) sum = sum * z + (slope ? 2 * (i + 1) * c[i] : c[i]);
  return sum;
}
VAE_EXT_INLINE double log_sinhc(double a) { return a * a * log_sinhc_terms(a * a, false); }
VAE_EXT_INLINE double log_sinhc_slope(double a) { return a * log_sinhc_terms(a * a, true); }

// (log(1 + x) - x) / w + x / 2 with w = x / (1 + x / 2), z = w^2 < 0.95: log(1 + x) is
// 2 atanh(w / 2).
VAE_EXT_INLINE float atanh_rest(float z) {
  const float c[] = {0x1.555556p-4f,  0x1.999974p-7f,  0x1.249c3ep-9f, 0x1.c5309cp-12f,
                     0x1.8a962ap-14f, 0x1.765dc4p-17f, 0x1.316496p-17f};
  return z * polynomial(c, z);
}
VAE_EXT_INLINE double atanh_rest(double z) {
  double sum = 0;
  const double quarter = 0.25 * z;
  VAE_EXT_UNROLL
  for (int k = 26; k > 0; --k) sum = (sum + 1. / (2 * k + 1)) * quarter;
  return sum;
}

// log(1 + x) - x, which near 0 is all that matters of either. Further out it comes from the
// logarithm of 1 + x, which the caller knows better than x.
template <class T>
VAE_EXT_INLINE T log1p_minus_x_near_0(T x) {
  const T w = ratio(x, T(1) + T(0.5) * x);
  return w * (atanh_rest(w * w) - T(0.5) * x);
}
template <class T>
VAE_EXT_INLINE T log1p_minus_x(T x, T log1p_x) {
  const T near = log1p_minus_x_near_0(x);
  return x > T(-0.65) && x < T(1.5) ? near : log1p_x - x;
}
// The same for x >= 0: of two comparisons GCC makes jumps where it knows that one is idle.
template <class T>
VAE_EXT_INLINE T log1p_minus_positive(T x, T log1p_x) {
  const T near = log1p_minus_x_near_0(x);
  return x < T(1.5) ? near : log1p_x - x;
}

// lgamma(y) = (y - 1/2) log(y) - y + log(2 pi) / 2 + S(y) and digamma(y) = log(y) - 1 / (2 y) +
// Q(y): S and Q of w = 1 / y, which decrease to 0 as w / 12 and -w^2 / 12; in float for y >= 1, in
// double for y >= 2. Added to `sum` in one rounding, so that they have the same bits where that is
// known to be 0.
VAE_EXT_INLINE float stirling_series(float w, float sum) {
  const float c[] = {0x1.555556p-4f, -0x1.77864cp-22f, -0x1.6b28dep-9f, -0x1.fef2a8p-15f,
                     0x1.16cc8p-10f, -0x1.528458p-11f, 0x1.2a4136p-13f};
  return multiply_add(w, polynomial(c, w), sum);
}
VAE_EXT_INLINE float digamma_series(float w, float sum) {
  const float c[] = {-0x1.55555ap-4f, 0x1.3f8d7p-19f, 0x1.0f55d4p-7f,  0x1.e80944p-12f,
                     -0x1.8c9708p-8f, 0x1.4e86cap-8f, -0x1.06f4d8p-9f, 0x1.524364p-12f};
  return multiply_add(w * w, polynomial(c, w), sum);
}
VAE_EXT_INLINE double stirling_series(double w, double sum) {
  const double c[] = {
      0.08333333333333333,   7.104072918575121e-15,  -0.002777777779143454,  1.0399897295779399e-10,
      0.0007936466246944185, 1.0128924062326998e-07, -0.0005968559635932757, 1.784693178616409e-05,
      0.0007019220563135701, 0.0007857014097289368,  -0.005042704570534964,  0.008309527866210831,
      -0.005575992096236207, -0.0021264184599195123, 0.0072027158463972485,  -0.005526957208589006,
      0.0015727240847562473,
  };
  return w * polynomial(c, w) + sum;
}
VAE_EXT_INLINE double digamma_series(double w, double sum) {
  const double c[] = {
      -0.08333333333333331,   -1.846223907128143e-14,  0.008333333337286948, -3.33830761545048e-10,
      -0.00396823919952916,   -3.9391502881664144e-07, 0.004173527215109983, -8.170484614342261e-05,
      -0.0068959429298458014, -0.003930056664204593,   0.036008979126688906, -0.028688359603355366,
      -0.11814169816702665,   0.4012882431202285,      -0.6192775462270274,  0.5591461737419401,
      -0.28687783096620095,   0.0652318187984099,
  };
  return (w * w) * polynomial(c, w) + sum;
}

// S and Q of any y > 0: by their recurrences to where the series serve, and no further, since the
// steps cancel more the larger y is. from_one: y >= 1, known where this is compiled.
template <class T>
constexpr int kSteps = sizeof(T) == sizeof(float) ? 1 : 2;

template <class T>
VAE_EXT_INLINE T stirling_rest(T y, bool from_one = false) {
  T sum = T(0);
  VAE_EXT_UNROLL
  for (int i = 0; i < kSteps<T>; ++i) {
    const bool small = !(from_one && kSteps<T> == 1) && y < T(kSteps<T>);
    const T step = (y + T(0.5)) * log_far(ratio(y + T(1), y)) - T(1);
    sum += small ? step : T(0);
    y = small ? y + T(1) : y;
  }
  return stirling_series(ratio(T(1), y), sum);
}
template <class T>
VAE_EXT_INLINE T digamma_rest(T y, bool from_one = false) {
  T sum = T(0);
  VAE_EXT_UNROLL
  for (int i = 0; i < kSteps<T>; ++i) {
    const bool small = !(from_one && kSteps<T> == 1) && y < T(kSteps<T>);
    const T step = log_far(ratio(y + T(1), y)) - T(0.5) * (ratio(T(1), y + T(1)) + ratio(T(1), y));
    sum += small ? step : T(0);
    y = small ? y + T(1) : y;
  }
  return digamma_series(ratio(T(1), y), sum);
}

VAE_EXT_NAMESPACE_END
