// exp and log as the formulas need them: total (no overflow before the result overflows, NaN
// in gives NaN out), branch-free in float so that a compiler can vectorize them, and accurate to
// about one unit in the last place. The float coefficients come from tools/fit_polynomials.py;
// double goes through the C library.
#pragma once

#include "hardware.h"

VAE_EXT_NAMESPACE_BEGIN

// Horner's rule, constant term first.
template <class T, int N>
VAE_EXT_INLINE T polynomial(const T (&c)[N], T x) {
  T sum = c[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = sum * x + c[i];
  return sum;
}

// 2^k for -126 <= k <= 127; anything else is meaningless, but defined.
VAE_EXT_INLINE float power_of_two(int32_t k) {
  return float_of((static_cast<uint32_t>(k) + 127u) << 23);
}

// What is known of the arguments of exp. Half of a full-range exp is spent on results that overflow
// or are subnormal; a caller that has looked at its data can leave that half out.
enum class ExpRange {
  kFull,
  kBounded,  // all within +-kBoundedExponent, or NaN
};
constexpr float kBoundedExponent = 86.f;  // exp of it, and of its negative, are normal floats

// a b + c, in one rounding where there is an instruction for it. Compilers may fuse any product and
// sum; this is for those whose callers must all get the same bits.
VAE_EXT_INLINE float multiply_add(float a, float b, float c) {
#if defined(VAE_EXT_FMA)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
VAE_EXT_INLINE double multiply_add(double a, double b, double c) { return a * b + c; }

// a / b where b and the quotient are normal numbers, to 1 unit in the last place, and the square
// root of one: on a GPU without the branches that take care of all others.
VAE_EXT_INLINE float quotient(float a, float b) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  const float r = hardware_reciprocal(b), q = a * r;
  return fmaf(fmaf(-q, b, a), r, q);
#else
  return a / b;
#endif
}
VAE_EXT_INLINE double quotient(double a, double b) { return a / b; }

VAE_EXT_INLINE float square_root(float x) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  return hardware_sqrt(x);
#else
  return sqrtf(x);
#endif
}
VAE_EXT_INLINE double square_root(double x) { return sqrt(x); }

// exp(y) = 2^k exp(r) with |r| <= ln2 / 2. What r has lost to rounding is r_lo.
struct ReducedArgument {
  int32_t k;
  float r;
  float r_lo;
  float power;  // 2^k
};

VAE_EXT_INLINE ReducedArgument reduce_argument(float y) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits: no conversion, which
  // would be undefined for NaN.
  const float shift = 12582912.f;
  const float t = y * 1.44269504f + shift;
  const float kf = t - shift;
  const int32_t k = static_cast<int32_t>(bits_of(t) - bits_of(shift));
  const float leading = multiply_add(kf, -0x1.63p-1f, y);  // exact
  const float r = multiply_add(kf, 0x1.bd0106p-13f, leading);
  // k is in the low bits of t, whose others are shifted out.
  const float power = float_of((bits_of(t) << 23) + 0x3f800000u);
  return {k, r, multiply_add(kf, 0x1.bd0106p-13f, leading - r), power};
}

struct ExpParts : ReducedArgument {
  float expm1_r_minus_r;  // exp(r) - 1 - r
  float expm1_r;          // exp(r) - 1
};

VAE_EXT_INLINE ExpParts split_exp(float y) {
  const ReducedArgument e = reduce_argument(y);
  const float c[] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.55551ap-5f, 0x1.120b6ep-7f, 0x1.6d110ap-10f};
  const float square = e.r * e.r, p = polynomial(c, e.r);
  return {e, square * p, multiply_add(square, p, e.r)};
}

#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
// y = h log(2) + rest, h rounded, and 2^h. log(2) is its float, which costs one unit in the last
// place at 43.
struct HardwarePower {
  float h, rest, power;
};
VAE_EXT_INLINE HardwarePower hardware_power(float y) {
  const float h = y * 0x1.715476p+0f;
  return {h, fmaf(h, -0x1.62e43p-1f, y), hardware_exp2(h)};
}

// exp(y) within kBoundedExponent.
VAE_EXT_INLINE float hardware_exp(const HardwarePower& e) { return fmaf(e.power, e.rest, e.power); }
VAE_EXT_INLINE float hardware_exp(float y) { return hardware_exp(hardware_power(y)); }
#endif

// a * exp(y), finite wherever the product is: exp(y) alone may overflow or underflow.
template <ExpRange kRange = ExpRange::kFull>
VAE_EXT_INLINE float mul_exp(float a, float y) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  if constexpr (kRange == ExpRange::kBounded) return a * hardware_exp(y);
#endif
  if constexpr (kRange == ExpRange::kFull) {
    // Beyond 260 every normal float a has gone to inf or 0. The comparisons let NaN through.
    y = y > 260.f ? 260.f : y;
    y = y < -260.f ? -260.f : y;
  }
  const ExpParts e = split_exp(y);
  const int32_t k = e.k;
  const float m = 1.f + e.expm1_r;
  if constexpr (kRange == ExpRange::kBounded) return (a * e.power) * m;
  // 2^k in four factors, each a normal float. Those before m scale a subnormal a up before it is
  // rounded, and a large one down before m > 1 makes it overflow; the last, 2 or more where k > 0,
  // lets m < 1 come first.
  const int32_t last = (k + 3) >> 2, quarter = k / 4;
  const float s = power_of_two(quarter);
  return ((((a * power_of_two(k - last - 2 * quarter)) * s) * s) * m) * power_of_two(last);
}

template <ExpRange kRange = ExpRange::kFull>
VAE_EXT_INLINE double mul_exp(double a, double y) {
  if (fabs(y) <= 700.) return a * exp(y);
  y = y > 2800. ? 2800. : y;
  y = y < -2800. ? -2800. : y;
  const double quarter = exp(0.25 * y);  // finite, so that a = 0 gives 0
  return (((a * quarter) * quarter) * quarter) * quarter;
}

// (exp(d) - 1 - d) / 2 by its series, for |d| <= kSeriesEdge. Differences of the three terms lose
// all digits near 0: at d = 1e-4 in float, and at d = 1e-12 in double.
VAE_EXT_INLINE float half_series(float d) {
  const float c[] = {0x1p-2f,        0x1.555554p-4f,  0x1.555556p-6f,
                     0x1.111174p-8f, 0x1.6c1702p-11f, 0x1.9fe17ep-14f,
                     0x1.9ff47p-17f, 0x1.7dde52p-20f, 0x1.2fe0a4p-23f};
  return d * d * polynomial(c, d);
}

VAE_EXT_INLINE double half_series(double d) {
  const double c[] = {1. / 4,
                      1. / 12,
                      1. / 48,
                      1. / 240,
                      1. / 1440,
                      1. / 10080,
                      1. / 80640,
                      1. / 725760,
                      1. / 7257600,
                      1. / 79833600,
                      1. / 958003200,
                      1. / 12454041600.,
                      1. / 174356582400.,
                      1. / 2615348736000.,
                      1. / 41845579776000.,
                      1. / 711374856192000.,
                      1. / 12804747411456000.};
  return d * d * polynomial(c, d);
}

// Up to where it serves: past 1 the difference of floats still loses what the series does not.
template <class T>
constexpr T kSeriesEdge = T(1);
template <>
inline constexpr float kSeriesEdge<float> = 1.25f;

// With d within kBoundedExponent and fused operations neither needs the series, nor a choice
// between two results: exp(d) = s (1 + r + bend), s = 2^k, and s - 1, r and bend (exp(r) - 1 - r)
// lose nothing where s = 1.
#if defined(VAE_EXT_FMA)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif
template <ExpRange kRange, class T>
constexpr bool kUsesFused = kFused && kRange == ExpRange::kBounded && sizeof(T) == sizeof(float);

#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
// With exp from the hardware, a choice between two results is cheaper: the exponential, and near 0
// a series. (exp(d) - 1 - d) / 2, e = exp(d):
VAE_EXT_INLINE float half_rest_by(float d, float e) {
  const float far = fmaf(-0.5f, d, fmaf(0.5f, e, -0.5f));
  return hardware_choice(d, kSeriesEdge<float>, half_series(d), far);
}
// (exp(d) - 1) / 2 by the parts of exp(d), which itself is not rounded: its last place may be two
// of the result.
VAE_EXT_INLINE float half_growth_by(float d, const HardwarePower& e) {
  const float exact = fmaf(e.h, 0x1.05c61p-29f, e.rest);  // log(2) is not its float
  const float far = fmaf(0.5f * e.power, exact, fmaf(0.5f, e.power, -0.5f));
  return hardware_choice(d, kSeriesEdge<float>, fmaf(0.5f, d, half_series(d)), far);
}
#endif

// s (1 + r) - 1 - d, exactly 0 for s = 1, and with what its rounding loses elsewhere; + s bend.
VAE_EXT_INLINE float half_expm1_minus_x_fused(float d) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  return half_rest_by(d, hardware_exp(d));
#else
  const ReducedArgument e = reduce_argument(d);
  // One degree more than exp itself needs: here bend is all that there is near 0.
  const float c[] = {0x1p-1f,       0x1.555556p-3f,  0x1.5554eap-5f,
                     0x1.1110ep-7f, 0x1.6d4324p-10f, 0x1.a124f2p-13f};
  const float bend = (e.r * e.r) * polynomial(c, e.r);
  const float s = e.power, base = s - 1.f;
  const float sum = multiply_add(s, e.r, base);
  const float line = (sum - d) + multiply_add(s, e.r, base - sum);
  const float whole = multiply_add(e.r_lo, 1.f + (e.r + bend), bend);
  return 0.5f * multiply_add(s, whole, line);
#endif
}

VAE_EXT_INLINE float half_expm1_fused(float d) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  return half_growth_by(d, hardware_power(d));
#else
  const ExpParts e = split_exp(d);
  const float s = e.power;
  const float growth = multiply_add(e.r_lo, 1.f + e.expm1_r, e.expm1_r);
  return 0.5f * multiply_add(s, growth, s - 1.f);
#endif
}

// (exp(d) - 1 - d) / 2 >= 0: what a variance ratio exp(d) adds to a Gaussian KL.
template <ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE T half_expm1_minus_x(T d) {
  if constexpr (kUsesFused<kRange, T>) return half_expm1_minus_x_fused(d);
  const T near = half_series(d);
  // Halved throughout, since exp(d) overflows before its half does; d is bounded because
  // inf - inf would be NaN where the limit is inf.
  const T bounded = d > T(1000) ? T(1000) : d;
  const T far = (mul_exp<kRange>(T(0.5), d) - T(0.5)) - T(0.5) * bounded;
  return fabs(d) < kSeriesEdge<T> ? near : far;
}

// (exp(d) - 1) / 2.
template <ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE T half_expm1(T d) {
  if constexpr (kUsesFused<kRange, T>) return half_expm1_fused(d);
  const T near = T(0.5) * d + half_series(d);
  const T far = mul_exp<kRange>(T(0.5), d) - T(0.5);
  return fabs(d) < kSeriesEdge<T> ? near : far;
}

// log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2), less its leading f.
VAE_EXT_INLINE float log1p_less_f(float f) {
  const float c[] = {0x1.555554p-2f, -0x1.0000cep-2f, 0x1.999f18p-3f, -0x1.54d01p-3f,
                     0x1.231c2ap-3f, -0x1.0a3586p-3f, 0x1.0288cp-3f,  -0x1.43bbb6p-4f};
  return f * f * (f * polynomial(c, f) - 0.5f);
}

// log(1 + e) for 0 <= e <= 1, relative to the value: log1p(1e-30) is 1e-30. It is 2 atanh(w / 2).
VAE_EXT_INLINE float log1p_unit(float e) {
  const float w = quotient(e, 1.f + 0.5f * e);
  const float z = w * w;
  const float c[] = {0x1.555556p-4f, 0x1.9998d4p-7f, 0x1.24c926p-9f, 0x1.bc8cf8p-12f,
                     0x1.dba26p-14f};
  return w + w * (z * polynomial(c, z));
}

VAE_EXT_INLINE double log1p_unit(double e) { return log1p(e); }

VAE_EXT_NAMESPACE_END
