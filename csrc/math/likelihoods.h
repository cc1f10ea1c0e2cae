// Log-likelihoods. The first input is the decoder's output, the second the target. See formula.h.
#pragma once

#include "formula.h"
#include "scale.h"
#include "special.h"

VAE_EXT_NAMESPACE_BEGIN

// t log sigmoid(x) + (1 - t) log sigmoid(-x) = t x - softplus(x)
struct Bernoulli {  // logit, target
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 0, kTarget = 1;
  static constexpr int kExponents[] = {0};
  static constexpr float kLargestTarget = 1;
  static constexpr const char* kTargets = "values in [0, 1]";

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(T logit, T target) {
    // Written so that both terms have one sign: t x - max(x, 0) = -|x| (x > 0 ? 1 - t : t).
    const T minus = -fabs(logit);
    const T weight = logit > T(0) ? T(1) - target : target;
    // At logit = +-inf with a target that agrees, inf * 0 must be its limit, 0.
    const bool agrees = kRange == ExpRange::kFull && weight == T(0);
    const T linear = agrees ? T(0) : weight * minus;
    return linear - log1p_unit(mul_exp<kRange>(T(1), minus));
  }

  // d/dlogit = t - sigmoid(x), which is t - sigmoid(-|x|) for x <= 0 and sigmoid(-|x|) - (1 - t)
  // for x > 0: a few ulp for t = 0 and 1, since the sigmoid of a negative number loses nothing.
  // d/dtarget = x
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 2> gradients(T g, T logit, T target) {
    const T e = mul_exp<kRange>(T(1), -fabs(logit));
    const T weight = logit > T(0) ? T(1) - target : target;
    const T difference = weight - quotient(e, T(1) + e);
    return {{(logit > T(0) ? -g : g) * difference, g * logit}};
  }
};

// The Bernoulli's terms, normalized over [0, 1]: t x - log((exp(x) - 1) / x). With a = |x| that is
// (1/2 - w) a - log(sinh(a / 2) / (a / 2)), w = t for x <= 0 and 1 - t for x > 0.
struct ContinuousBernoulli {  // logit, target
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 0, kTarget = 1;
  static constexpr int kExponents[] = {0};
  static constexpr float kLargestTarget = 1;
  static constexpr const char* kTargets = "values in [0, 1]";

  static constexpr int kEdge = 2;  // up to where the series serve

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(T logit, T target) {
    const T a = fabs(logit), weight = logit > T(0) ? T(1) - target : target;
    const T near = (target - T(0.5)) * logit - log_sinhc(a);  // without w, which is rounded
    const T e = mul_exp<kRange>(T(1), -a);
    // At an infinite logit a target that agrees has an infinite density, and others have none.
    const bool agrees = kRange == ExpRange::kFull && weight == T(0);
    const bool lost = kRange == ExpRange::kFull && !agrees && a == T(INFINITY);
    const T far = log_far(ratio(lost ? T(1) : a, T(1) - e)) - (agrees ? T(0) : weight * a);
    return a < T(kEdge) ? near : far;
  }

  // d/dlogit = t - m(x), m = 1 / (1 - exp(-x)) - 1 / x the mean: m(-a) = 1/2 - k(a), m(a) = 1/2 +
  // k(a), k the derivative of the logarithm above.
  // d/dtarget = x
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 2> gradients(T g, T logit, T target) {
    const T a = fabs(logit), weight = logit > T(0) ? T(1) - target : target;
    const T e = mul_exp<kRange>(T(1), -a);
    const T half = logit > T(0) ? T(0.5) - target : target - T(0.5);
    const T near = half + log_sinhc_slope(a);
    const T far = weight - (ratio(T(1), a) - ratio(e, T(1) - e));
    const T difference = a < T(kEdge) ? near : far;
    return {{(logit > T(0) ? -g : g) * difference, g * logit}};
  }
};

// -(log 2 pi + logvar + s^2) / 2, s = (target - mean) / sigma
struct Gaussian {  // mean, target, scale
  static constexpr int kInputs = 3, kRequired = 2, kNumbers = 1, kTarget = 1;
  static constexpr int kForms = ScaleForm::kCount;
  static constexpr int kExponents[] = {2};

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(int form, T mean, T target, T scale) {
    // (d / sigma)^2 and not d^2 / sigma^2: that is 0 * inf where sigma^2 alone underflows.
    const T s = over_sigma<kRange>(form, target - mean, scale), logvar = logvar_of(form, scale);
    // At logvar = -inf a target that is missed must win over the density's height: inf - inf would
    // be NaN where the limit is -inf.
    const T lowest = s != T(0) ? T(-1e30) : T(-INFINITY);
    const T height = logvar < lowest ? lowest : logvar;
    return -((T(0.5) * s) * s + T(0.5) * (height + kLog2Pi<T>));
  }

  // d/dmean = (target - mean) exp(-logvar) = -d/dtarget, d/dlogvar = (s^2 - 1) / 2
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 3> gradients(int form, T g, T mean, T target, T scale) {
    const T s = over_sigma<kRange>(form, target - mean, scale);
    const T by_mean = g * over_sigma<kRange>(form, s, scale);
    return {{by_mean, -by_mean, g * by_scale(form, (T(0.5) * s) * s - T(0.5), scale)}};
  }
};

// -(log 2 + log_scale + |s|), s = (target - loc) / scale
struct Laplace {  // loc, target, log_scale
  static constexpr int kInputs = 3, kRequired = 2, kNumbers = 1, kTarget = 1;
  static constexpr int kExponents[] = {2};

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(T loc, T target, T log_scale) {
    const T s = mul_exp<kRange>(fabs(target - loc), -log_scale);
    // As for the Gaussian: at log_scale = -inf a target that is missed must win.
    const T height = s != T(0) && log_scale < T(-1e30) ? T(-1e30) : log_scale;
    return -(s + (height + T(0.69314718055994530942)));
  }

  // d/dloc = sign(target - loc) / scale = -d/dtarget, 0 where they meet; d/dlog_scale = |s| - 1
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 3> gradients(T g, T loc, T target, T log_scale) {
    const T d = target - loc;
    const T sign = d > T(0) ? T(1) : d < T(0) ? T(-1) : d;
    const T by_loc = g * mul_exp<kRange>(sign, -log_scale);
    return {{by_loc, -by_loc, g * (mul_exp<kRange>(fabs(d), -log_scale) - T(1))}};
  }
};

// lgamma((n + 1) / 2) - lgamma(n / 2) - log(pi n) / 2 - log_scale - (n + 1) / 2 log(1 + q), where q
// = s^2 / n, s = (target - loc) / scale. The first three are log N(0; 0, 1) and what decreases as 1
// / n.
struct StudentT {  // loc, target, df n, log_scale
  static constexpr int kInputs = 4, kRequired = 2, kNumbers = 2, kTarget = 1;
  static constexpr int kExponents[] = {3};
  using kCostly = void;

  // Of what value and gradients are made. Products that both need are fused by hand: they must have
  // the same bits in a loop for either and in one for both.
  template <ExpRange kRange, class T>
  struct Parts {
    T n, w, log1p_w, distance;  // w = 1 / n
    T s, r;                     // r = |s| sqrt(w)
    T q, log1p_q;               // where r is large, of its parts, which do not overflow

    VAE_EXT_INLINE Parts(T loc, T target, T df, T log_scale) {
      // Beyond 1e30 it is the Gaussian, which no float tells from this; 1 / n must be one.
      const T bounded = df > T(1e30) ? T(1e30) : df;
      n = bounded > T(1e-37) ? bounded : T(NAN);
      w = ratio(T(1), n);
      log1p_w = log_from_one(T(1) + w);
      distance = target - loc;
      const T root = square_root(w);
      s = mul_exp<kRange>(distance, -log_scale);
      r = fabs(s) * root;
      // log(r), by a distance that is lifted out of the subnormal numbers, of which a GPU's
      // instruction has no logarithm. Of two infinities the distance wins.
      const bool tiny = fabs(distance) < T(0x1p-60);
      const T lifted = fabs(tiny ? distance * T(0x1p64) : distance) * root;
      const T log_distance = log_far(lifted) - (tiny ? T(44.3614195558364998) : T(0));
      const T beyond = T(2) * (log_distance - (log_scale > T(1e30) ? T(1e30) : log_scale));
      q = r > T(1e9) ? T(0) : (s * w) * s;
      const T near = log1p_of(q);
      log1p_q = r > T(1e9) ? beyond : near;
    }
    // q / (1 + q)
    VAE_EXT_INLINE T share() const {
      const T inverse = ratio(T(1), r);
      const T far = ratio(T(1), multiply_add(inverse, inverse, T(1)));
      return r > T(1) ? far : ratio(q, T(1) + q);
    }
  };

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(T loc, T target, T df, T log_scale) {
    const Parts<kRange, T> p(loc, target, df, log_scale);
    const T half = T(0.5) * p.n;
    const T rest = stirling_rest(half + T(0.5)) - stirling_rest(half);
    const T height = multiply_add(half, log1p_minus_positive(p.w, p.log1p_w), rest);
    // At log_scale = -inf a target that is missed must win over the density's height.
    const T lowest = p.distance != T(0) ? T(-1e30) : T(-INFINITY);
    const T width = log_scale < lowest ? lowest : log_scale;
    const T middle = height - (T(0.5) * kLog2Pi<T> + width);
    return multiply_add(-(half + T(0.5)), p.log1p_q, middle);
  }

  // d/dloc = (n + 1) share / (target - loc) = -d/dtarget, d/dlog_scale = (n + 1) share - 1, and
  // 2 d/dn = log(1 + w) - w / (1 + w) + Q((n + 1) / 2) - Q(n / 2) + share - log(1 + q) + w share
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 4> gradients(T g, T loc, T target, T df, T log_scale) {
    const Parts<kRange, T> p(loc, target, df, log_scale);
    const T share = p.share(), more = p.n + T(1);
    const T inner = ratio((T(1) + p.w) * p.s, T(1) + p.q);
    const T near = mul_exp<kRange>(inner, -log_scale), far = ratio(more * share, p.distance);
    const T by_loc = g * (p.r > T(1) ? far : near);
    // Where w or q is small, without the linear terms that are opposite.
    const T below = log1p_minus_positive(p.w, p.log1p_w) + ratio(p.w * p.w, T(1) + p.w);
    const T by_w = p.w > T(1) ? p.log1p_w - ratio(p.w, T(1) + p.w) : below;
    const T small = -multiply_add(p.q, share, log1p_minus_positive(p.q, p.log1p_q));
    const T by_q = p.r > T(1) ? share - p.log1p_q : small;
    const T half = T(0.5) * p.n;
    const T rest = digamma_rest(half + T(0.5)) - digamma_rest(half);
    const T by_df = g * (T(0.5) * ((by_w + rest) + multiply_add(p.w, share, by_q)));
    return {{by_loc, -by_loc, by_df, g * multiply_add(more, share, T(-1))}};
  }
};

VAE_EXT_NAMESPACE_END
