// The bodies of the tile kernels. Included once per instruction set by kernels_<level>.cpp, which
// names VAE_EXT_LEVEL and turns the instruction set on. No header with inline functions that other
// translation units also compile may be included here (see portable.h).

#include "../formulas.h"
#include "../half.h"
#include "kernels.h"
#include "philox_blocks.h"

VAE_EXT_NAMESPACE_BEGIN

namespace {

#include "tiles.inl"

// ---- Elementwise formulas ----------------------------------------------------------------------

// True if nothing in a tile exceeds half of kSmallExponent: then no log-variance, logit or
// difference of two of them does harm to the short exp. Compared as integers, whose reduction
// vectorizes; so NaN counts as large.
inline bool small(int n, const float* x) {
  const int32_t limit = static_cast<int32_t>(bits_of(0.5f * kSmallExponent));
  int32_t excess = 0;  // negative once a magnitude is beyond the limit
  for (int i = 0; i < n; ++i) {
    excess |= limit - static_cast<int32_t>(bits_of(x[i]) & 0x7fffffffu);
  }
  return excess >= 0;
}
inline bool small(int, const double*) { return false; }  // its exp is the C library's

// A probability's bits are at most those of 1, and those of a negative number or of NaN are more. A
// second look lets -0 and NaN pass.
template <class T>
bool any_no_probability_exact(int n, const T* targets) {
  bool found = false;
  for (int i = 0; i < n; ++i) found = found || no_probability(targets[i]);
  return found;
}
inline bool any_no_probability(int n, const float* targets) {
  uint32_t most = 0;
  for (int i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(targets[i]);
    most = bits > most ? bits : most;
  }
  return most > bits_of(1.f) && any_no_probability_exact(n, targets);
}
inline bool any_no_probability(int n, const double* targets) {
  return any_no_probability_exact(n, targets);
}

// The loops over a formula: its arguments are as many input tiles. The output never aliases an
// input, which the compiler must be told before it vectorizes.
#define VAE_EXT_TILE_LOOP(formula)                                         \
  template <class T, class... Inputs>                                      \
  void formula##_tile(int n, T* __restrict out, const Inputs*... inputs) { \
    for (int i = 0; i < n; ++i) out[i] = formula(inputs[i]...);            \
  }

// The same for a formula with exponentials, of the inputs numbered by ...
#define VAE_EXT_TILE_LOOP_EXP(formula, ...) \
  VAE_EXT_TILE_LOOP_EXP_AS(formula, formula, =, __VA_ARGS__)

#define VAE_EXT_TILE_LOOP_EXP_AS(name, formula, assign, ...)                 \
  template <Exponent kRange, class T, class... Inputs>                       \
  void name##_loop(int n, T* __restrict out, const Inputs*... inputs) {      \
    for (int i = 0; i < n; ++i) out[i] assign formula<kRange>(inputs[i]...); \
  }                                                                          \
  template <class T, class... Inputs>                                        \
  void name##_tile(int n, T* out, const Inputs*... inputs) {                 \
    const T* tiles[] = {inputs...};                                          \
    constexpr int exponents[] = {__VA_ARGS__};                               \
    bool all_small = true;                                                   \
    for (int i : exponents) all_small = all_small && small(n, tiles[i]);     \
    all_small ? name##_loop<Exponent::kSmall>(n, out, inputs...)             \
              : name##_loop<Exponent::kAny>(n, out, inputs...);              \
  }

VAE_EXT_TILE_LOOP_EXP(reparameterize, 1)
VAE_EXT_TILE_LOOP_EXP(reparameterize_dlogvar, 1)
VAE_EXT_TILE_LOOP_EXP_AS(add_reparameterize_dlogvar, reparameterize_dlogvar, +=, 1)
VAE_EXT_TILE_LOOP_EXP(reparameterize_dnoise, 1)
VAE_EXT_TILE_LOOP(log_q)
VAE_EXT_TILE_LOOP(log_p)
VAE_EXT_TILE_LOOP_EXP(kl_standard, 1)
VAE_EXT_TILE_LOOP(kl_standard_dmu)
VAE_EXT_TILE_LOOP_EXP(kl_standard_dlogvar, 1)
VAE_EXT_TILE_LOOP(reparameterize_with_kl_dmu)
VAE_EXT_TILE_LOOP_EXP(reparameterize_with_kl_dlogvar, 2)
VAE_EXT_TILE_LOOP_EXP(kl_prior, 1, 3)
VAE_EXT_TILE_LOOP_EXP(kl_prior_dmu, 3)
VAE_EXT_TILE_LOOP_EXP(kl_prior_dlogvar, 1, 2)
VAE_EXT_TILE_LOOP_EXP(kl_prior_dprior_logvar, 2, 4)
VAE_EXT_TILE_LOOP_EXP(bernoulli, 0)
VAE_EXT_TILE_LOOP_EXP(bernoulli_dlogit, 1)
VAE_EXT_TILE_LOOP(bernoulli_dtarget)
VAE_EXT_TILE_LOOP_EXP(gaussian, 2)
VAE_EXT_TILE_LOOP_EXP(gaussian_dmean, 3)
VAE_EXT_TILE_LOOP_EXP(gaussian_dlogvar, 3)

template <class T>
void bound_tile(int n, bool soft, T* __restrict out, const T* x, T low, T high) {
  if (soft) {
    for (int i = 0; i < n; ++i) out[i] = soft_bound(x[i], low, high);
  } else {
    for (int i = 0; i < n; ++i) out[i] = hard_bound(x[i], low, high);
  }
}
template <class T>
void bound_gradient_tile(int n, bool soft, T* __restrict g, const T* x, T low, T high) {
  if (soft) {
    for (int i = 0; i < n; ++i) g[i] = soft_bound_dx(g[i], x[i], low, high);
  } else {
    for (int i = 0; i < n; ++i) g[i] = hard_bound_dx(g[i], x[i], low, high);
  }
}

// Several results in one loop, which share their exponentials.
template <Exponent kRange, class T>
void reparameterize_with_kl_loop(int n, T* __restrict z, T* __restrict kl, const T* mu,
                                 const T* logvar, const T* eps) {
  for (int i = 0; i < n; ++i) {
    const auto both = reparameterize_with_kl<kRange>(mu[i], logvar[i], eps[i]);
    z[i] = both.z;
    kl[i] = both.kl;
  }
}
template <class T>
void reparameterize_with_kl_tile(int n, T* z, T* kl, const T* mu, const T* logvar, const T* eps) {
  small(n, logvar) ? reparameterize_with_kl_loop<Exponent::kSmall>(n, z, kl, mu, logvar, eps)
                   : reparameterize_with_kl_loop<Exponent::kAny>(n, z, kl, mu, logvar, eps);
}

template <Flow kFlow, Exponent kRange, class T>
void add_sample_gradients_loop(int n, T* __restrict dmu, T* __restrict dlogvar, const T* grad_z,
                               const T* grad_q, const T* grad_p, const T* mu, const T* logvar,
                               const T* eps) {
  for (int i = 0; i < n; ++i) {
    const auto g =
        sample_gradients<kFlow, kRange>(grad_z[i], grad_q[i], grad_p[i], mu[i], logvar[i], eps[i]);
    dmu[i] += g.mu;
    dlogvar[i] += g.logvar;
  }
}
template <class T>
void add_sample_gradients_tile(int n, int64_t flow, T* dmu, T* dlogvar, const T* grad_z,
                               const T* grad_q, const T* grad_p, const T* mu, const T* logvar,
                               const T* eps) {
  const auto run = [&]<Flow kFlow>() {
    small(n, logvar) ? add_sample_gradients_loop<kFlow, Exponent::kSmall>(
                           n, dmu, dlogvar, grad_z, grad_q, grad_p, mu, logvar, eps)
                     : add_sample_gradients_loop<kFlow, Exponent::kAny>(
                           n, dmu, dlogvar, grad_z, grad_q, grad_p, mu, logvar, eps);
  };
  switch (static_cast<Flow>(flow)) {
    case Flow::kAll:
      return run.template operator()<Flow::kAll>();
    case Flow::kScore:
      return run.template operator()<Flow::kScore>();
    case Flow::kPath:
      return run.template operator()<Flow::kPath>();
  }
}

template <Exponent kRange, class T>
void bernoulli_both_loop(int n, T* __restrict out, T* __restrict dlogit, const T* logits,
                         const T* target, T g) {
  for (int i = 0; i < n; ++i) {
    const T x = logits[i], t = target[i];
    out[i] = bernoulli<kRange>(x, t);
    dlogit[i] = bernoulli_dlogit<kRange>(g, x, t);
  }
}
template <class T>
void bernoulli_both_tile(int n, T* out, T* dlogit, const T* logits, const T* target, T g) {
  small(n, logits) ? bernoulli_both_loop<Exponent::kSmall>(n, out, dlogit, logits, target, g)
                   : bernoulli_both_loop<Exponent::kAny>(n, out, dlogit, logits, target, g);
}

template <Exponent kRange, class T>
void gaussian_both_loop(int n, T* __restrict out, T* __restrict dmean, T* __restrict dlogvar,
                        const T* mean, const T* target, const T* logvar, T g) {
  for (int i = 0; i < n; ++i) {
    const T m = mean[i], x = target[i], lv = logvar[i];
    out[i] = gaussian<kRange>(m, x, lv);
    dmean[i] = gaussian_dmean<kRange>(g, m, x, lv);
    dlogvar[i] = gaussian_dlogvar<kRange>(g, m, x, lv);
  }
}
template <class T>
void gaussian_both_tile(int n, T* out, T* dmean, T* dlogvar, const T* mean, const T* target,
                        const T* logvar, T g) {
  small(n, logvar)
      ? gaussian_both_loop<Exponent::kSmall>(n, out, dmean, dlogvar, mean, target, logvar, g)
      : gaussian_both_loop<Exponent::kAny>(n, out, dmean, dlogvar, mean, target, logvar, g);
}

#undef VAE_EXT_TILE_LOOP
#undef VAE_EXT_TILE_LOOP_EXP
#undef VAE_EXT_TILE_LOOP_EXP_AS

template <class T>
constexpr Kernels<T> make_kernels() {
  Kernels<T> k{};
  k.load = load<T>;
  k.store = store<T>;
  k.noise = noise<T>;
  k.words = words;
  k.any_no_probability = any_no_probability;
  k.sum = sum<T>;
  k.fill = fill<T>;
  k.add = add<T>;
  k.bound = bound_tile;
  k.bound_gradient = bound_gradient_tile;
  k.reparameterize = reparameterize_tile;
  k.reparameterize_dlogvar = reparameterize_dlogvar_tile;
  k.add_reparameterize_dlogvar = add_reparameterize_dlogvar_tile;
  k.reparameterize_dnoise = reparameterize_dnoise_tile;
  k.log_q = log_q_tile;
  k.log_p = log_p_tile;
  k.add_sample_gradients = add_sample_gradients_tile;
  k.kl_standard = kl_standard_tile;
  k.kl_standard_dmu = kl_standard_dmu_tile;
  k.kl_standard_dlogvar = kl_standard_dlogvar_tile;
  k.reparameterize_with_kl = reparameterize_with_kl_tile;
  k.reparameterize_with_kl_dmu = reparameterize_with_kl_dmu_tile;
  k.reparameterize_with_kl_dlogvar = reparameterize_with_kl_dlogvar_tile;
  k.kl_prior = kl_prior_tile;
  k.kl_prior_dmu = kl_prior_dmu_tile;
  k.kl_prior_dlogvar = kl_prior_dlogvar_tile;
  k.kl_prior_dprior_logvar = kl_prior_dprior_logvar_tile;
  k.bernoulli = bernoulli_tile;
  k.bernoulli_dlogit = bernoulli_dlogit_tile;
  k.bernoulli_dtarget = bernoulli_dtarget_tile;
  k.bernoulli_both = bernoulli_both_tile;
  k.gaussian = gaussian_tile;
  k.gaussian_dmean = gaussian_dmean_tile;
  k.gaussian_dlogvar = gaussian_dlogvar_tile;
  k.gaussian_both = gaussian_both_tile;
  return k;
}

}  // namespace

#define VAE_EXT_STRING_(x) #x
#define VAE_EXT_STRING(x) VAE_EXT_STRING_(x)

extern const KernelSet kernel_set_of_level;
const KernelSet kernel_set_of_level = {VAE_EXT_STRING(VAE_EXT_LEVEL), make_kernels<float>(),
                                       make_kernels<double>()};

VAE_EXT_NAMESPACE_END
