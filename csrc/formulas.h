// Every formula of the library, once: value and derivatives side by side, per element, in nats.
// Read by the scalar, the vectorized and the CUDA kernels. T is float or double; half-precision
// tensors are computed in float. kRange says what is known of the exponents: a caller may state
// kSmall where every log-variance and logit lies within half of kSmallExponent. Numbers in
// parentheses are those of docs/derivations.md.
//
// A derivative takes the incoming gradient g and returns its product with g: the last step is the
// one place where g can be 0, inf or NaN, and it behaves as multiplication does.
#pragma once

#include "elementary.h"
#include "flow.h"

VAE_EXT_NAMESPACE_BEGIN

// ---- Bounds on logvar ---------------------------------------------------------------------------

// min(max(x, low), high). NaN stays.
template <class T>
VAE_EXT_INLINE T hard_bound(T x, T low, T high) {
  return x < low ? low : (x > high ? high : x);
}

// 1 between the bounds and on them, else 0, whatever came in.
template <class T>
VAE_EXT_INLINE T hard_bound_dx(T g, T x, T low, T high) {
  return x < low || x > high ? T(0) : g;
}

// middle + half tanh((x - middle) / half), middle and half being those of the bounds.
template <class T>
VAE_EXT_INLINE T soft_bound(T x, T low, T high) {
  const T half = T(0.5) * (high - low), middle = low + half;
  const T y = (x - middle) / half;
  // tanh(-|y|) = e / (2 + e), e = expm1(-2 |y|): relative to the value, so that x near 0 is not
  // lost.
  const T h = half_expm1(T(-2) * fabs(y));
  const T t = h / (T(1) + h);
  return middle + half * (y > T(0) ? -t : t);
}

// 1 - tanh^2 = 4 e / (1 + e)^2, e = exp(-2 |y|)
template <class T>
VAE_EXT_INLINE T soft_bound_dx(T g, T x, T low, T high) {
  const T half = T(0.5) * (high - low);
  const T e = mul_exp(T(1), T(-2) * fabs((x - (low + half)) / half));
  const T q = T(2) / (T(1) + e);
  return g * (e * (q * q));
}

// ---- Reparameterization: z = mu + sigma eps, sigma = exp(logvar / 2) -------------------------

template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T reparameterize(T mu, T logvar, T eps) {
  return mu + mul_exp<kRange>(eps, T(0.5) * logvar);
}

// dz/dmu = 1: the incoming gradient itself.

// dz/dlogvar = sigma eps / 2
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T reparameterize_dlogvar(T g, T logvar, T eps) {
  return g * mul_exp<kRange>(T(0.5) * eps, T(0.5) * logvar);
}

// dz/deps = sigma
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T reparameterize_dnoise(T g, T logvar) {
  return mul_exp<kRange>(g, T(0.5) * logvar);
}

// ---- Log-densities of a sample: log q(z) of N(mu, exp(logvar)), log p(z) of N(0, 1) ------------

template <class T>
constexpr T kLog2Pi = T(1.83787706640934548356);

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

// For incoming gradients of z, log q and log p; d log p / dz = -z.
template <Flow kFlow, Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE SampleGradients<T> sample_gradients(T grad_z, T grad_q, T grad_p, T mu, T logvar,
                                                   T eps) {
  const T half = T(0.5) * logvar;
  const T score = kFlow == Flow::kAll ? T(0) : mul_exp<kRange>(grad_q * eps, -half);
  const T square = (T(0.5) * eps) * eps;
  if constexpr (kFlow == Flow::kScore) return {score, grad_q * (square - T(0.5))};
  const T step = mul_exp<kRange>(eps, half);
  const T path = grad_z - grad_p * (mu + step);
  const T by_logvar = path * (T(0.5) * step);
  if constexpr (kFlow == Flow::kPath) return {path - score, by_logvar - grad_q * square};
  return {path, by_logvar - T(0.5) * grad_q};
}

// ---- KL(N(mu, exp(logvar)) || N(0, 1)), (4.5): (mu^2 + exp(logvar) - 1 - logvar) / 2 ----------

template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T kl_standard(T mu, T logvar) {
  // Both halves are >= 0, so nothing cancels and the sum cannot be negative.
  return (T(0.5) * mu) * mu + half_expm1_minus_x<kRange>(logvar);
}

// dKL/dmu = mu
template <class T>
VAE_EXT_INLINE T kl_standard_dmu(T g, T mu) {
  return g * mu;
}

// dKL/dlogvar = (exp(logvar) - 1) / 2
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T kl_standard_dlogvar(T g, T logvar) {
  return g * half_expm1<kRange>(logvar);
}

// ---- Both, which can share an exponential; their gradients meet in mu and logvar ---------------

template <class T>
struct SampleAndKL {
  T z, kl;
};

template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE SampleAndKL<T> reparameterize_with_kl(T mu, T logvar, T eps) {
  if constexpr (kUsesFused<kRange, T>) {
    const GaussianExps e = gaussian_exps(logvar);
    return {mu + eps * e.sigma, (T(0.5) * mu) * mu + e.half_expm1_minus_x};
  }
  return {reparameterize<kRange>(mu, logvar, eps), kl_standard<kRange>(mu, logvar)};
}

template <class T>
VAE_EXT_INLINE T reparameterize_with_kl_dmu(T grad_z, T grad_kl, T mu) {
  return grad_z + kl_standard_dmu(grad_kl, mu);
}

template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T reparameterize_with_kl_dlogvar(T grad_z, T grad_kl, T logvar, T eps) {
  if constexpr (kUsesFused<kRange, T>) {
    const GaussianExps e = gaussian_exps(logvar);
    return grad_z * ((T(0.5) * eps) * e.sigma) + grad_kl * e.half_expm1;
  }
  return reparameterize_dlogvar<kRange>(grad_z, logvar, eps) +
         kl_standard_dlogvar<kRange>(grad_kl, logvar);
}

// ---- KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar))), the general form of (4.0) ------
//      d = logvar - prior_logvar,  s = (mu - prior_mu) / sigma_prior:  (s^2 + exp(d) - 1 - d) / 2

template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T kl_prior(T mu, T logvar, T prior_mu, T prior_logvar) {
  const T s = mul_exp<kRange>(mu - prior_mu, T(-0.5) * prior_logvar);
  return (T(0.5) * s) * s + half_expm1_minus_x<kRange>(logvar - prior_logvar);
}

// dKL/dmu = (mu - prior_mu) exp(-prior_logvar) = -dKL/dprior_mu
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T kl_prior_dmu(T g, T mu, T prior_mu, T prior_logvar) {
  const T half = T(-0.5) * prior_logvar;
  return g * mul_exp<kRange>(mul_exp<kRange>(mu - prior_mu, half), half);
}

// dKL/dlogvar = (exp(d) - 1) / 2
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T kl_prior_dlogvar(T g, T logvar, T prior_logvar) {
  return g * half_expm1<kRange>(logvar - prior_logvar);
}

// dKL/dprior_logvar = -(exp(d) - 1 + s^2) / 2
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T kl_prior_dprior_logvar(T g, T mu, T logvar, T prior_mu, T prior_logvar) {
  const T s = mul_exp<kRange>(mu - prior_mu, T(-0.5) * prior_logvar);
  return -g * ((T(0.5) * s) * s + half_expm1<kRange>(logvar - prior_logvar));
}

// ---- Bernoulli log-likelihood: t log sigmoid(x) + (1 - t) log sigmoid(-x) = t x - softplus(x) -

template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T bernoulli(T logit, T target) {
  // Written so that both terms have one sign: t x - max(x, 0) = -|x| (x > 0 ? 1 - t : t).
  const T minus = -fabs(logit);
  const T weight = logit > T(0) ? T(1) - target : target;
  // At logit = +-inf with a target that agrees, inf * 0 must be its limit, 0.
  const bool agrees = kRange == Exponent::kAny && weight == T(0);
  const T linear = agrees ? T(0) : weight * minus;
  return linear - log1p_unit(mul_exp<kRange>(T(1), minus));
}

// d/dlogit = t - sigmoid(x), which is t - sigmoid(-|x|) for x <= 0 and sigmoid(-|x|) - (1 - t) for
// x > 0: a few ulp for t = 0 and 1, since the sigmoid of a negative number loses nothing.
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T bernoulli_dlogit(T g, T logit, T target) {
  const T e = mul_exp<kRange>(T(1), -fabs(logit));
  const T weight = logit > T(0) ? T(1) - target : target;
  const T difference = weight - e / (T(1) + e);
  return (logit > T(0) ? -g : g) * difference;
}

// d/dtarget = x
template <class T>
VAE_EXT_INLINE T bernoulli_dtarget(T g, T logit) {
  return g * logit;
}

// A target that is no probability; NaN counts as one, since it shows in the result.
template <class T>
VAE_EXT_INLINE bool no_probability(T target) {
  return target < T(0) || target > T(1);
}

// ---- Gaussian log-likelihood: -(log 2 pi + logvar + s^2) / 2, s = (target - mean) / sigma -----

template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T gaussian(T mean, T target, T logvar) {
  // (d / sigma)^2 and not d^2 / sigma^2: that is 0 * inf where sigma^2 alone underflows.
  const T s = mul_exp<kRange>(target - mean, T(-0.5) * logvar);
  // At logvar = -inf a target that is missed must win over the density's height: inf - inf would
  // be NaN where the limit is -inf.
  const T height = s != T(0) && logvar < T(-1e30) ? T(-1e30) : logvar;
  return -((T(0.5) * s) * s + T(0.5) * (height + kLog2Pi<T>));
}

// d/dmean = (target - mean) exp(-logvar) = -d/dtarget
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T gaussian_dmean(T g, T mean, T target, T logvar) {
  const T half = T(-0.5) * logvar;
  return g * mul_exp<kRange>(mul_exp<kRange>(target - mean, half), half);
}

// d/dlogvar = (s^2 - 1) / 2
template <Exponent kRange = Exponent::kAny, class T>
VAE_EXT_INLINE T gaussian_dlogvar(T g, T mean, T target, T logvar) {
  const T s = mul_exp<kRange>(target - mean, T(-0.5) * logvar);
  return g * ((T(0.5) * s) * s - T(0.5));
}

VAE_EXT_NAMESPACE_END
