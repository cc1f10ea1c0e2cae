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

// A target outside of what the formula takes. NaN is not: it shows in the result.
template <class F, class T>
VAE_EXT_INLINE bool refused_target(T target) {
  return target < T(0) || target > T(F::kLargestTarget);
}

VAE_EXT_NAMESPACE_END
