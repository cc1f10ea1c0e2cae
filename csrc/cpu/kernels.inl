// The bodies of the tile kernels. Included once per instruction set by kernels_<level>.cpp, which
// names VAE_EXT_LEVEL and turns the instruction set on. No header with inline functions that other
// translation units also compile may be included here (see portable.h).

#include <type_traits>
#include <utility>

#include "../math/count_mixtures.h"
#include "../math/groups.h"
#include "../math/half.h"
#include "../math/likelihoods.h"
#include "../math/mixture.h"
#include "../math/sampling.h"
#include "kernels.h"
#include "philox_blocks.h"

VAE_EXT_NAMESPACE_BEGIN

namespace {

#include "tiles.inl"

// ---- Elementwise formulas ----------------------------------------------------------------------

// True if nothing in a tile exceeds half of kBoundedExponent: then no log-variance, logit or
// difference of two of them does harm to the short exp. Compared as integers, whose reduction
// vectorizes; so NaN counts as large.
inline bool is_bounded(int n, const float* x) {
  const int32_t limit = static_cast<int32_t>(bits_of(0.5f * kBoundedExponent));
  int32_t excess = 0;  // negative once a magnitude is beyond the limit
  for (int i = 0; i < n; ++i) {
    excess |= limit - static_cast<int32_t>(bits_of(x[i]) & 0x7fffffffu);
  }
  return excess >= 0;
}
inline bool is_bounded(int, const double*) { return false; }  // its exp is the C library's

// The loops over a formula: its arguments are as many input tiles. The output never aliases an
// input, which the compiler must be told before it vectorizes.
#define VAE_EXT_TILE_LOOP(formula)                                         \
  template <class T, class... Inputs>                                      \
  void formula##_tile(int n, T* __restrict out, const Inputs*... inputs) { \
    for (int i = 0; i < n; ++i) out[i] = formula(inputs[i]...);            \
  }

// The same for a formula of a scale, the input of that number, in each of its forms.
#define VAE_EXT_SCALE_LOOP(formula, scale) VAE_EXT_SCALE_LOOP_AS(formula, formula, =, scale)

#define VAE_EXT_SCALE_LOOP_AS(name, formula, assign, scale)                                 \
  template <int kForm, ExpRange kRange, class T, class... Inputs>                           \
  void name##_loop(int n, T* __restrict out, const Inputs*... inputs) {                     \
    for (int i = 0; i < n; ++i) out[i] assign formula<kRange>(kForm, inputs[i]...);         \
  }                                                                                         \
  template <int kForm, class T, class... Inputs>                                            \
  void name##_tile(int n, T* out, const Inputs*... inputs) {                                \
    const T* tiles[] = {inputs...};                                                         \
    is_bounded(n, tiles[scale]) ? name##_loop<kForm, ExpRange::kBounded>(n, out, inputs...) \
                                : name##_loop<kForm, ExpRange::kFull>(n, out, inputs...);   \
  }

VAE_EXT_SCALE_LOOP(reparameterize, 1)
VAE_EXT_SCALE_LOOP(reparameterize_dscale, 1)
VAE_EXT_SCALE_LOOP_AS(add_reparameterize_dscale, reparameterize_dscale, +=, 1)
VAE_EXT_SCALE_LOOP(reparameterize_dnoise, 1)
VAE_EXT_TILE_LOOP(log_q)
VAE_EXT_TILE_LOOP(log_p)
VAE_EXT_TILE_LOOP(reparameterize_with_kl_dmu)
VAE_EXT_SCALE_LOOP(reparameterize_with_kl_dscale, 2)

template <class T>
void bound_tile(int n, bool soft, T* __restrict out, const T* x, T low, T high) {
  const Range<T> in(low, high);
  if (soft) {
    for (int i = 0; i < n; ++i) out[i] = soft_bound(x[i], in);
  } else {
    for (int i = 0; i < n; ++i) out[i] = hard_bound(x[i], in);
  }
}
template <class T>
void bound_gradient_tile(int n, bool soft, T* __restrict g, const T* x, T low, T high) {
  const Range<T> in(low, high);
  if (soft) {
    for (int i = 0; i < n; ++i) g[i] = soft_bound_dx(g[i], x[i], in);
  } else {
    for (int i = 0; i < n; ++i) g[i] = hard_bound_dx(g[i], x[i], in);
  }
}

// Several results in one loop, which share their exponentials.
template <int kForm, ExpRange kRange, class T>
void reparameterize_with_kl_loop(int n, T* __restrict z, T* __restrict kl, const T* mu,
                                 const T* scale, const T* eps) {
  for (int i = 0; i < n; ++i) {
    const auto both = reparameterize_with_kl<kRange>(kForm, mu[i], scale[i], eps[i]);
    z[i] = both.z;
    kl[i] = both.kl;
  }
}
template <int kForm, class T>
void reparameterize_with_kl_tile(int n, T* z, T* kl, const T* mu, const T* scale, const T* eps) {
  is_bounded(n, scale)
      ? reparameterize_with_kl_loop<kForm, ExpRange::kBounded>(n, z, kl, mu, scale, eps)
      : reparameterize_with_kl_loop<kForm, ExpRange::kFull>(n, z, kl, mu, scale, eps);
}

template <DrawGradient kGradient, ExpRange kRange, class T>
void add_sample_gradients_loop(int n, T* __restrict dmu, T* __restrict dlogvar, const T* grad_z,
                               const T* grad_q, const T* grad_p, const T* mu, const T* logvar,
                               const T* eps) {
  for (int i = 0; i < n; ++i) {
    const auto g = sample_gradients<kGradient, kRange>(grad_z[i], grad_q[i], grad_p[i], mu[i],
                                                       logvar[i], eps[i]);
    dmu[i] += g.mu;
    dlogvar[i] += g.logvar;
  }
}
template <class T>
void add_sample_gradients_tile(int n, DrawGradient gradient, T* dmu, T* dlogvar, const T* grad_z,
                               const T* grad_q, const T* grad_p, const T* mu, const T* logvar,
                               const T* eps) {
  const auto run = [&]<DrawGradient kGradient>() {
    is_bounded(n, logvar) ? add_sample_gradients_loop<kGradient, ExpRange::kBounded>(
                                n, dmu, dlogvar, grad_z, grad_q, grad_p, mu, logvar, eps)
                          : add_sample_gradients_loop<kGradient, ExpRange::kFull>(
                                n, dmu, dlogvar, grad_z, grad_q, grad_p, mu, logvar, eps);
  };
  switch (gradient) {
    case DrawGradient::kReparameterized:
      return run.template operator()<DrawGradient::kReparameterized>();
    case DrawGradient::kScore:
      return run.template operator()<DrawGradient::kScore>();
    case DrawGradient::kStickingTheLanding:
      return run.template operator()<DrawGradient::kStickingTheLanding>();
  }
}

#include "formula_loops.inl"
#include "group_loops.inl"
#include "mixture_loops.inl"

#undef VAE_EXT_TILE_LOOP
#undef VAE_EXT_SCALE_LOOP
#undef VAE_EXT_SCALE_LOOP_AS

#define VAE_EXT_SET_BY_FORM(k, name)                            \
  k.name[ScaleForm::kLogvar] = name##_tile<ScaleForm::kLogvar>; \
  k.name[ScaleForm::kLogStd] = name##_tile<ScaleForm::kLogStd>; \
  k.name[ScaleForm::kStd] = name##_tile<ScaleForm::kStd>;

template <class T>
constexpr Kernels<T> make_kernels() {
  Kernels<T> k{};
  k.load = load<T>;
  k.store = store<T>;
  k.noise = noise<T>;
  k.noise_of_blocks = noise_of_blocks<T>;
  k.words = words;
  k.sum = sum<T>;
  k.fill = fill<T>;
  k.add = add<T>;
  k.add_to_sums = add_to_sums<T>;
  k.mask = mask<T>;
  k.weigh = weigh<T>;
  k.bound = bound_tile;
  k.bound_gradient = bound_gradient_tile;
  VAE_EXT_SET_BY_FORM(k, reparameterize)
  VAE_EXT_SET_BY_FORM(k, reparameterize_dscale)
  VAE_EXT_SET_BY_FORM(k, add_reparameterize_dscale)
  VAE_EXT_SET_BY_FORM(k, reparameterize_with_kl)
  VAE_EXT_SET_BY_FORM(k, reparameterize_with_kl_dscale)
  k.reparameterize_dnoise = reparameterize_dnoise_tile<ScaleForm::kLogvar>;
  k.log_q = log_q_tile;
  k.log_p = log_p_tile;
  k.add_sample_gradients = add_sample_gradients_tile;
  k.reparameterize_with_kl_dmu = reparameterize_with_kl_dmu_tile;
#define VAE_EXT_LIKELIHOOD(name, Formula, ...) fill_table<Formula, T>(k.name);
#define VAE_EXT_DIVERGENCE(name, Formula, ...) \
  fill_table<Formula, T>(k.name);              \
  fill_table<Formula::Standard, T>(k.standard_##name);
#include "../ops/formulas.def"
#define VAE_EXT_GROUP(name, Formula, ...) k.name = GroupLoops<Formula, T>::kernels();
#include "../ops/groups.def"
  k.mixture = MixtureLoops<T>::kernels();
  return k;
}

#undef VAE_EXT_SET_BY_FORM

}  // namespace

#define VAE_EXT_STRING_(x) #x
#define VAE_EXT_STRING(x) VAE_EXT_STRING_(x)

extern const KernelSet kernel_set_of_level;
const KernelSet kernel_set_of_level = {VAE_EXT_STRING(VAE_EXT_LEVEL), make_kernels<float>(),
                                       make_kernels<double>()};

VAE_EXT_NAMESPACE_END
