// Log-likelihoods of counts: the second input is the count x. See formula.h.
//
// The usual differences of lgamma lose all digits for a large dispersion. Here each is a deviance
// from the mean, of terms that are 0 where count and mean agree, and what lgamma has beside its
// leading terms: see docs/derivations.md. Most counts are 0, so that each formula is two.
#pragma once

#include "formula.h"
#include "special.h"

VAE_EXT_NAMESPACE_BEGIN

struct OfCounts {
  static constexpr int kTarget = 1;
  static constexpr bool kSplitAtZero = true, kServesZero = false;
  static constexpr float kLargestTarget = INFINITY;
  static constexpr const char* kTargets = "values of at least 0";
};

template <class T>
VAE_EXT_INLINE T nonnegative_or_nan(T x) {
  return x >= T(0) ? x : T(NAN);
}

// sigmoid(x) and sigmoid(-x), from e = exp(-|x|): neither loses its digits.
template <class T>
struct Sigmoids {
  T e, most, of, of_minus;  // most: the larger

  VAE_EXT_INLINE explicit Sigmoids(T x)
      : e(exp_nonpositive(-fabs(x))), most(quotient(T(1), T(1) + e)) {
    of = x > T(0) ? most : e * most;
    of_minus = x > T(0) ? e * most : most;
  }
};

// x log(rate) - rate - lgamma(x + 1)
struct Poisson : OfCounts {  // rate | log_rate, count
  enum Form { kRate, kLogRate };
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 0, kForms = 2;
  static constexpr bool kServesZero = true;

  template <class T>
  VAE_EXT_INLINE static T rate_of(int form, T input) {
    return form == kLogRate ? mul_exp(T(1), input) : nonnegative_or_nan(input);
  }

  template <class T>
  VAE_EXT_INLINE static T value_at_zero(int form, T input, T) {
    return -rate_of(form, input);
  }
  template <class T>
  VAE_EXT_INLINE static T value_above_zero(int form, bool whole, T input, T x) {
    const T rate = rate_of(form, input), log_x = whole ? log_from_one(x) : log_far(x);
    const T log_ratio = form == kLogRate ? input - log_x : log_far(ratio(rate, x));
    const T deviance = x * log1p_minus_x(ratio(rate - x, x), log_ratio);
    const T height = T(0.5) * (kLog2Pi<T> + log_x) + stirling_rest(x, whole);
    return x == T(0) ? -rate : deviance - height;
  }

  // d/drate = (x - rate) / rate, d/dlog_rate = x - rate
  template <class T>
  VAE_EXT_INLINE static Gradients<T, 2> gradients_at_zero(int form, T g, T input, T) {
    return {{g * (form == kLogRate ? -rate_of(form, input) : T(-1)), T(0)}};
  }
  template <class T>
  VAE_EXT_INLINE static Gradients<T, 2> gradients_above_zero(int form, bool, T g, T input, T x) {
    const T rate = rate_of(form, input), gap = x - rate;
    return {{g * (form == kLogRate ? gap : x == T(0) ? T(-1) : ratio(gap, rate)), T(0)}};
  }
};

// ---- The negative binomial ---------------------------------------------------------------------

enum DispersionForm {
  kDispersion,     // mean, dispersion theta: variance mean + mean^2 / theta
  kLogDispersion,  // mean, log theta
  kTotalCount,     // logits and theta: mean = theta exp(logits)
};

// One negative binomial, whatever the form of its parameters: success = mean / (mean + theta) and
// failure = theta / (mean + theta).
template <class T>
struct CountLaw {
  int form;
  T mean;  // logits in their form
  T theta, success, failure;
  T log_success, log_failure;  // with logits

  VAE_EXT_INLINE CountLaw(int form_, T first, T second) : form(form_), mean(first) {
    theta = nonnegative_or_nan(form == kLogDispersion ? mul_exp(T(1), second) : second);
    if (form == kTotalCount) {
      const bool positive = first > T(0);
      const Sigmoids<T> sigmoid(first);
      success = sigmoid.of;
      failure = sigmoid.of_minus;
      const T size = fabs(first), rest = log1p_unit(sigmoid.e);
      log_success = -(positive ? rest : size + rest);
      log_failure = -(positive ? size + rest : rest);
    } else {
      const T scale = ratio(T(1), nonnegative_or_nan(mean) + theta);
      success = mean * scale;
      failure = theta * scale;
      log_success = log_failure = T(0);
    }
  }

  // log P(0) = theta log(failure), and its derivatives.
  struct AtZero {
    T value, by_mean, by_theta;
  };
  VAE_EXT_INLINE AtZero at_zero() const {
    if (form == kTotalCount) return {theta * log_failure, -theta * success, log_failure};
    const T rest = log1p_minus_x(-success, log_far(failure));
    // Both are negative. At theta = 0 the product is its limit, unless the mean is NaN.
    const T limit = -(theta + (mean - mean));
    const T value = theta == T(0) ? limit : theta * (rest - success);
    return {value, -failure, rest};
  }

  // log P(x), x > 0: of x log(1 + u) and theta log(1 + d) the linear parts x u and theta d are
  // opposite, and left out. 1 + u = success (x + theta) / x, 1 + d = failure (x + theta) / theta.
  struct Deviations {
    T u, log1p_u, d, log1p_d;
  };
  VAE_EXT_INLINE Deviations deviations(T x) const {
    const T total = x + theta;
    if (form == kTotalCount) {
      const T gap = theta * success - x * failure;
      return {ratio(gap, x), log_far(ratio(total, x)) + log_success, ratio(-gap, theta),
              log_far(ratio(total, theta)) + log_failure};
    }
    const T scale = mean + theta, growth = ratio(total, scale);
    return {ratio(mean - x, x) * failure, log_far(ratio(mean, x) * growth), ratio(x - mean, scale),
            log_far(growth)};
  }

  VAE_EXT_INLINE T deviance(T x) const {
    const Deviations by = deviations(x);
    return x * log1p_minus_x(by.u, by.log1p_u) + theta * log1p_minus_x(by.d, by.log1p_d);
  }
  // What the value is where count and mean agree.
  VAE_EXT_INLINE T height(bool whole, T x) const {
    const T total = x + theta;
    const T log_width = T(0.5) * (log_far(ratio(ratio(theta, total), x)) - kLog2Pi<T>);
    return log_width +
           (stirling_rest(total, whole) - stirling_rest(theta) - stirling_rest(x, whole));
  }

  // The derivatives, x > 0: (x - mean) failure / mean, by logits (x - mean) failure; and
  // log(1 + d) - d + x / (2 theta (x + theta)) + Q(x + theta) - Q(theta), with logits without - d.
  struct Slopes {
    T by_mean, by_theta;
  };
  VAE_EXT_INLINE Slopes slopes(bool whole, T x) const {
    const Deviations by = deviations(x);
    const T total = x + theta;
    const T rest =
        ratio(T(0.5) * ratio(x, total), theta) + (digamma_rest(total, whole) - digamma_rest(theta));
    const T bend = log1p_minus_x(by.d, by.log1p_d);
    if (form == kTotalCount) return {-x * by.u, (bend + by.d) + rest};
    return {ratio(x - mean, mean) * failure, bend + rest};
  }

  // A derivative by theta as one by the second input.
  VAE_EXT_INLINE T by_second(T by_theta) const {
    return form == kLogDispersion ? theta * by_theta : by_theta;
  }
};

struct NegativeBinomial : OfCounts {  // mean | logits, count, dispersion | its log | total_count
  static constexpr int kInputs = 3, kRequired = 2, kNumbers = 1, kForms = 3;

  template <class T>
  VAE_EXT_INLINE static T value_at_zero(int form, T mean, T, T dispersion) {
    return CountLaw<T>(form, mean, dispersion).at_zero().value;
  }
  template <class T>
  VAE_EXT_INLINE static T value_above_zero(int form, bool whole, T mean, T x, T dispersion) {
    const CountLaw<T> law(form, mean, dispersion);
    return law.deviance(x) + law.height(whole, x);
  }

  template <class T>
  VAE_EXT_INLINE static Gradients<T, 3> gradients_at_zero(int form, T g, T mean, T, T dispersion) {
    const CountLaw<T> law(form, mean, dispersion);
    const auto by = law.at_zero();
    return {{g * by.by_mean, T(0), g * law.by_second(by.by_theta)}};
  }
  template <class T>
  VAE_EXT_INLINE static Gradients<T, 3> gradients_above_zero(int form, bool whole, T g, T mean, T x,
                                                             T dispersion) {
    const CountLaw<T> law(form, mean, dispersion);
    const auto by = law.slopes(whole, x);
    return {{g * by.by_mean, T(0), g * law.by_second(by.by_theta)}};
  }
};

VAE_EXT_NAMESPACE_END
