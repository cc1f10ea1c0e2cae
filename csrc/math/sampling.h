// Sampling: bounds on logvar, z = mu + sigma eps in each form of the scale, its log-densities, and
// the KL in the same pass. Values and derivatives side by side, per element, in nats, for every
// compiler: see formula.h.
#pragma once

#include "divergences.h"
#include "draw_gradient.h"

VAE_EXT_NAMESPACE_BEGIN

// ---- Bounds on logvar ---------------------------------------------------------------------------

// The bounds, half of their distance, the middle between them, and 1 / half.
template <class T>
struct Range {
  T low, high;
  T half, middle, per_half;

  Range() = default;
  Range(T low_, T high_)
      : low(low_),
        high(high_),
        half(T(0.5) * (high - low)),
        middle(low + half),
        per_half(T(1) / half) {}
};

// min(max(x, low), high). NaN stays.
template <class T>
VAE_EXT_INLINE T hard_bound(T x, const Range<T>& in) {
  return x < in.low ? in.low : (x > in.high ? in.high : x);
}

// 1 between the bounds and on them, else 0, whatever came in.
template <class T>
VAE_EXT_INLINE T hard_bound_dx(T g, T x, const Range<T>& in) {
  return x < in.low || x > in.high ? T(0) : g;
}

// middle + half tanh((x - middle) / half)
template <class T>
VAE_EXT_INLINE T soft_bound(T x, const Range<T>& in) {
  const T y = (x - in.middle) * in.per_half;
  // tanh(-|y|) = e / (2 + e), e = expm1(-2 |y|): relative to the value, so that x near 0 is not
  // lost. From 40 on it is -1.
  const T size = T(2) * fabs(y);
  const T h = half_expm1<ExpRange::kBounded>(size > T(80) ? T(-80) : -size);
  const T t = quotient(h, T(1) + h);
  return in.middle + in.half * (y > T(0) ? -t : t);
}

// 1 - tanh^2 = 4 e / (1 + e)^2, e = exp(-2 |y|)
template <class T>
VAE_EXT_INLINE T soft_bound_dx(T g, T x, const Range<T>& in) {
  const T size = T(2) * fabs((x - in.middle) * in.per_half);
  const T e = size > T(kBoundedExponent) ? T(0) : mul_exp<ExpRange::kBounded>(T(1), -size);
  const T q = quotient(T(2), T(1) + e);
  return g * (e * (q * q));
}

// ---- Reparameterization: z = mu + sigma eps -----------------------------------------------------

template <ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE T reparameterize(int form, T mu, T scale, T eps) {
  if constexpr (kUsesFused<kRange, T>) {  // in one rounding, wherever sigma is at hand
    return multiply_add(eps, times_sigma<kRange>(form, T(1), scale), mu);
  }
  return mu + times_sigma<kRange>(form, eps, scale);
}

// dz/dmu = 1: the incoming gradient itself.

// dz/dscale: of logvar sigma eps / 2, of log_std sigma eps, of std eps
template <ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE T reparameterize_dscale(int form, T g, T scale, T eps) {
  if (form == ScaleForm::kStd) return g * eps;
  const T a = form == ScaleForm::kLogStd ? eps : T(0.5) * eps;
  return g * times_sigma<kRange>(form, a, scale);
}

// dz/deps = sigma
template <ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE T reparameterize_dnoise(int form, T g, T scale) {
  return times_sigma<kRange>(form, g, scale);
}

// ---- Log-densities of a sample: log q(z) of N(mu, exp(logvar)), log p(z) of N(0, 1) ------------

// -(log 2 pi + logvar + eps^2) / 2. From eps, which z has lost where sigma is small beside mu.
template <class T>
VAE_EXT_INLINE T log_q(T logvar, T eps) {
  return -((T(0.5) * eps) * eps + T(0.5) * (logvar + kLog2Pi<T>));
}

// -(log 2 pi + z^2) / 2
template <class T>
VAE_EXT_INLINE T log_p(T z) {
  return -((T(0.5) * z) * z + T(0.5) * kLog2Pi<T>);
}

// What reaches mu and logvar from a sample and its log-densities.
template <class T>
struct SampleGradients {
  T mu, logvar;
};

// For incoming gradients of z, log q and log p; d log p / dz = -z. score = grad_q eps / sigma, and
// step = sigma eps.
template <DrawGradient kGradient, class T>
VAE_EXT_INLINE SampleGradients<T> sample_gradients_of(T grad_z, T grad_q, T grad_p, T mu, T eps,
                                                      T score, T step) {
  const T square = (T(0.5) * eps) * eps;
  if constexpr (kGradient == DrawGradient::kScore) return {score, grad_q * (square - T(0.5))};
  const T path = grad_z - grad_p * (mu + step);
  const T by_logvar = path * (T(0.5) * step);
  if constexpr (kGradient == DrawGradient::kStickingTheLanding)
    return {path - score, by_logvar - grad_q * square};
  return {path, by_logvar - T(0.5) * grad_q};
}

template <DrawGradient kGradient, ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE SampleGradients<T> sample_gradients(T grad_z, T grad_q, T grad_p, T mu, T logvar,
                                                   T eps) {
  const T half = T(0.5) * logvar;
  const T score =
      kGradient == DrawGradient::kReparameterized ? T(0) : mul_exp<kRange>(grad_q * eps, -half);
  const T step = kGradient == DrawGradient::kScore ? T(0) : mul_exp<kRange>(eps, half);
  return sample_gradients_of<kGradient>(grad_z, grad_q, grad_p, mu, eps, score, step);
}

// ---- A sample and its KL, which share an exponential; their gradients meet in mu and logvar ----

// sigma = exp(x / 2), (exp(x) - 1) / 2 and (exp(x) - 1 - x) / 2 of one x, from one exponential:
// with exp(x / 2) = s (1 + p), exp(x) - 1 = s^2 p (2 + p) + (s^2 - 1). Good to 1.1, 2.7 and 3.5
// units in the last place, for x within kBoundedExponent / 2. Its cancellations need true fused
// operations: hence only where the instruction set has them.
struct GaussianExps {
  float sigma;
  float half_expm1;
  float half_expm1_minus_x;
};
VAE_EXT_INLINE GaussianExps gaussian_exps(float x) {
#if defined(VAE_EXT_HARDWARE_FUNCTIONS)
  // Both from the hardware, since the square of sigma has twice its error: as hardware_exp(x / 2),
  // whose bits a sample without a KL has, and hardware_exp(x).
  const HardwarePower e = hardware_power(x);
  const HardwarePower half = {0.5f * e.h, 0.5f * e.rest, hardware_exp2(0.5f * e.h)};
  return {hardware_exp(half), half_growth_by(x, e), half_rest_by(x, hardware_exp(e))};
#else
  const ExpParts e = split_exp(0.5f * x);
  const float s = e.power;
  const float s2 = s * s;
  const float p = e.expm1_r;
  const float m = 1.f + p;
  const float bend = multiply_add(e.r_lo, m * m, e.expm1_r_minus_r);
  // s^2 m^2 - 1 - x = (s^2 (1 + 2 r) - 1 - x) + s^2 r^2 + s^2 bend (2 + r + p). The first is
  // exactly 0 for s = 1, and has what its rounding loses added elsewhere.
  const float base = s2 - 1.f;
  const float sum = multiply_add(s2 + s2, e.r, base);
  const float line = (sum - x) + multiply_add(s2 + s2, e.r, base - sum);
  const float square = multiply_add(s2 * e.r, e.r, line);
  return {s * m, 0.5f * multiply_add(s2, p * (2.f + p), base),
          0.5f * multiply_add(s2 * bend, 2.f + (e.r + p), square)};
#endif
}

template <class T>
struct SampleAndKL {
  T z, kl;
};

template <ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE SampleAndKL<T> reparameterize_with_kl(int form, T mu, T scale, T eps) {
  if constexpr (kUsesFused<kRange, T>) {
    if (form == ScaleForm::kLogvar) {
      const GaussianExps e = gaussian_exps(scale);
      return {multiply_add(eps, e.sigma, mu), (T(0.5) * mu) * mu + e.half_expm1_minus_x};
    }
  }
  return {reparameterize<kRange>(form, mu, scale, eps),
          StandardGaussianKL::value<kRange>(form, mu, scale)};
}

template <class T>
VAE_EXT_INLINE T reparameterize_with_kl_dmu(T grad_z, T grad_kl, T mu) {
  return grad_z + grad_kl * mu;
}

template <ExpRange kRange = ExpRange::kFull, class T>
VAE_EXT_INLINE T reparameterize_with_kl_dscale(int form, T grad_z, T grad_kl, T scale, T eps) {
  if constexpr (kUsesFused<kRange, T>) {
    if (form == ScaleForm::kLogvar) {
      const GaussianExps e = gaussian_exps(scale);
      return grad_z * ((T(0.5) * eps) * e.sigma) + grad_kl * e.half_expm1;
    }
  }
  return reparameterize_dscale<kRange>(form, grad_z, scale, eps) +
         StandardGaussianKL::gradients<kRange>(form, grad_kl, T(0), scale).by[1];
}

VAE_EXT_NAMESPACE_END
