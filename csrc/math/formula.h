// What a formula is: a log-likelihood or a divergence, per element, in nats. Each is a struct, read
// by the scalar, the vectorized and the CUDA kernels; T is float or double, and half-precision
// tensors are computed in float. Numbers in parentheses are those of docs/derivations.md.
//
//   kInputs          its inputs; ops/formulas.def names them
//   kRequired        those that must be tensors; each of the others may be absent,
//   kNumbers         so many of which a number stands for then, and 0 for the rest
//   kTarget          the input that is data, or -1: the one-pass kernels leave out its gradient
//   kExponents       the inputs that an exponential is taken of: where all of them lie within half
//                    of kBoundedExponent, kRange is kBounded
//   kLargestTarget   if there is one, the targets lie between 0 and it: kTargets says so
//   kForms           if there is one, the inputs come in so many forms, such as a scale or its
//                    logarithm; which, the functions are told first
//   kSplitAtZero     if there is one, value_at_zero and gradients_at_zero serve a target of 0, and
//                    value_above_zero and gradients_above_zero the others, told whether those are
//                    known to be at least 1: no value, no gradients, no kExponents, and no
//                    gradient by the target
//   kServesZero      whether the others' functions serve a target of 0, too, which costs them next
//                    to nothing
//   kCostly          if there is one, its arithmetic outweighs its loads, as that of kSplitAtZero
//   Standard         if there is one, the formula of the required inputs alone, the others being 0
//   value            of the inputs
//   gradients        by each input, times the incoming gradient g: the last step is the one place
//                    where g can be 0, inf or NaN, and it behaves as multiplication does
//
// The compiler leaves out what only those gradients need that a kernel does not store.
#pragma once

#include "elementary.h"

VAE_EXT_NAMESPACE_BEGIN

template <class T, int kInputs>
struct Gradients {
  T by[kInputs];
};

template <class T>
constexpr T kLog2Pi = T(1.83787706640934548356);

template <class F>
constexpr bool kHasLargestTarget = requires { F::kLargestTarget; };

template <class F>
constexpr bool kSplitsAtZero = requires { F::kSplitAtZero; };

template <class F>
constexpr bool kIsCostly = kSplitsAtZero<F> || requires { typename F::kCostly; };

template <class F>
constexpr int kFormsOf = 1;
template <class F>
  requires requires { F::kForms; }
constexpr int kFormsOf<F> = F::kForms;

// A formula of several forms, in its first alone: where the form is not known to the compiler the
// others would cost the usual one instructions.
template <class F>
struct FirstForm {
  static constexpr int kInputs = F::kInputs, kRequired = F::kRequired, kNumbers = F::kNumbers;
  static constexpr int kTarget = F::kTarget;
  static constexpr auto& kExponents = F::kExponents;

  template <ExpRange kRange, class... Inputs>
  VAE_EXT_INLINE static auto value(Inputs... inputs) {
    return F::template value<kRange>(0, inputs...);
  }
  template <ExpRange kRange, class... Inputs>
  VAE_EXT_INLINE static auto gradients(Inputs... inputs) {
    return F::template gradients<kRange>(0, inputs...);
  }
};

// What is known of the targets of a formula that is split at 0, all of them.
enum class Targets {
  kAny,
  kZero,
  kPositive,
  kWhole,  // at least 1
};
template <Targets kTargets, class T>
VAE_EXT_INLINE bool is_zero(T target) {
  return kTargets == Targets::kZero || (kTargets == Targets::kAny && target == T(0));
}

// Value and gradients of one element, whatever the kind of formula.
template <class F, ExpRange kRange, Targets kTargets = Targets::kAny, class T, class... More>
VAE_EXT_INLINE T value_of(int form, T lead, T second, More... more) {
  if constexpr (kSplitsAtZero<F>) {
    if (is_zero<kTargets>(second)) return F::value_at_zero(form, lead, second, more...);
    return F::value_above_zero(form, kTargets == Targets::kWhole, lead, second, more...);
  } else if constexpr (kFormsOf<F> > 1) {
    return F::template value<kRange>(form, lead, second, more...);
  } else {
    return F::template value<kRange>(lead, second, more...);
  }
}
template <class F, ExpRange kRange, Targets kTargets = Targets::kAny, class T, class... More>
VAE_EXT_INLINE Gradients<T, F::kInputs> gradients_of(int form, T g, T lead, T second,
                                                     More... more) {
  if constexpr (kSplitsAtZero<F>) {
    if (is_zero<kTargets>(second)) return F::gradients_at_zero(form, g, lead, second, more...);
    return F::gradients_above_zero(form, kTargets == Targets::kWhole, g, lead, second, more...);
  } else if constexpr (kFormsOf<F> > 1) {
    return F::template gradients<kRange>(form, g, lead, second, more...);
  } else {
    return F::template gradients<kRange>(g, lead, second, more...);
  }
}

// A target outside of what the formula takes. NaN is not: it shows in the result.
template <class F, class T>
VAE_EXT_INLINE bool refused_target(T target) {
  return target < T(0) || target > T(F::kLargestTarget);
}

VAE_EXT_NAMESPACE_END
