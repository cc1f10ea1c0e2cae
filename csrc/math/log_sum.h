// The logarithm of a sum of exponentials, term by term: the largest term, and what the others add
// up to beside it. Where it is all that there is, log(1 + others) loses nothing.
#pragma once

#include "special.h"

VAE_EXT_NAMESPACE_BEGIN

// exp(x) for x <= 0, and below -kBoundedExponent 0, which it is as good as beside 1.
template <class T>
VAE_EXT_INLINE T exp_beside_one(T x) {
  const bool none = x < T(-kBoundedExponent);
  const T e = mul_exp<ExpRange::kBounded>(T(1), none ? T(0) : x);
  return none ? T(0) : e;
}

template <class T>
struct LogSum {
  T most, others;

  VAE_EXT_INLINE static LogSum of(T term) { return {term, T(0)}; }

  VAE_EXT_INLINE LogSum with(T term) const {
    const T gap = most == term ? T(0) : -fabs(term - most);  // of infinities, too
    const T e = exp_beside_one(gap);
    const bool larger = term > most;
    return {larger ? term : most, larger ? multiply_add(others, e, e) : others + e};
  }

  // Of the sum.
  VAE_EXT_INLINE T log() const { return most + log1p_of(others); }
  // log(exp(term) / sum) of a term of it.
  VAE_EXT_INLINE T log_share(T term) const { return (term - most) - log1p_of(others); }
  // exp(term) / sum, with the sum's part computed once: share() of it.
  VAE_EXT_INLINE T factor() const { return T(1) / (T(1) + others); }
  VAE_EXT_INLINE T share(T term, T factor) const { return exp_beside_one(term - most) * factor; }
  // 1 less that: where the term is the largest, all that the others have.
  VAE_EXT_INLINE T rest(T term, T factor) const {
    return term == most ? others * factor : T(1) - share(term, factor);
  }
};

VAE_EXT_NAMESPACE_END
