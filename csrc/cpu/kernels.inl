// The bodies of the tile kernels. Included once per instruction set by kernels_<level>.cpp, which
// names VAE_EXT_LEVEL and turns the instruction set on. No header with inline functions that other
// translation units also compile may be included here (see portable.h).

#include "../formulas.h"
#include "../half.h"
#include "kernels.h"
#include "philox_blocks.h"

VAE_EXT_NAMESPACE_BEGIN

namespace {

// ---- Storage -----------------------------------------------------------------------------------

template <class T, class S, class Convert>
inline void convert(int n, const S* source, int64_t source_stride, T* out, int64_t out_stride,
                    Convert to) {
  if (source_stride == 1 && out_stride == 1) {
    for (int i = 0; i < n; ++i) out[i] = to(source[i]);
  } else {
    for (int i = 0; i < n; ++i) out[i * out_stride] = to(source[i * source_stride]);
  }
}

template <class T>
void load(int n, Storage storage, const void* source, int64_t stride, T* out) {
  switch (storage) {
    case Storage::kFloat:
      return convert(n, static_cast<const float*>(source), stride, out, 1,
                     [](float x) { return static_cast<T>(x); });
    case Storage::kDouble:
      return convert(n, static_cast<const double*>(source), stride, out, 1,
                     [](double x) { return static_cast<T>(x); });
    case Storage::kHalf:
      return convert(n, static_cast<const uint16_t*>(source), stride, out, 1,
                     [](uint16_t x) { return static_cast<T>(float_of_half(x)); });
    case Storage::kBFloat16:
      return convert(n, static_cast<const uint16_t*>(source), stride, out, 1,
                     [](uint16_t x) { return static_cast<T>(float_of_bfloat16(x)); });
    case Storage::kByte:
      return convert(n, static_cast<const uint8_t*>(source), stride, out, 1,
                     [](uint8_t x) { return static_cast<T>(x); });
  }
}

template <class T>
void store(int n, Storage storage, const T* source, void* out, int64_t stride) {
  switch (storage) {
    case Storage::kFloat:
      return convert(n, source, 1, static_cast<float*>(out), stride,
                     [](T x) { return static_cast<float>(x); });
    case Storage::kDouble:
      return convert(n, source, 1, static_cast<double*>(out), stride,
                     [](T x) { return static_cast<double>(x); });
    case Storage::kHalf:
      return convert(n, source, 1, static_cast<uint16_t*>(out), stride,
                     [](T x) { return half_of_float(static_cast<float>(x)); });
    case Storage::kBFloat16:
      return convert(n, source, 1, static_cast<uint16_t*>(out), stride,
                     [](T x) { return bfloat16_of_float(static_cast<float>(x)); });
    case Storage::kByte:
      return;  // never an output
  }
}

// ---- Noise -------------------------------------------------------------------------------------

// The blocks that elements start ... start + n - 1 lie in, word by word.
struct Words {
  static constexpr int kBlocks = kTile / 4 + 32;  // one more, rounded up to whole groups
  alignas(64) uint32_t word[4][kBlocks];
  int blocks;
  int skip;  // elements of the first block before `start`

  Words(int n, uint64_t seed, uint64_t stream, uint64_t start) {
    skip = static_cast<int>(start % 4);
    blocks = (skip + n + 3) / 4;
    philox_blocks(blocks, seed, stream, start / 4, word);
  }
};

template <class T>
const T* noise(int n, uint64_t seed, uint64_t stream, uint64_t start, T* buffer) {
  const Words w(n, seed, stream, start);
  for (int b = 0; b < w.blocks; ++b) {
    T* out = buffer + 4 * b;
    box_muller(w.word[0][b], w.word[1][b], &out[0], &out[1]);
    box_muller(w.word[2][b], w.word[3][b], &out[2], &out[3]);
  }
  return buffer + w.skip;
}

void words(int n, uint64_t seed, uint64_t stream, uint64_t start, int64_t* out) {
  const Words w(n, seed, stream, start);
  for (int i = 0; i < n; ++i) out[i] = w.word[(i + w.skip) % 4][(i + w.skip) / 4];
}

// ---- Sums --------------------------------------------------------------------------------------

template <int kLanes, class T>
inline double sum_in_lanes(int n, const T* x) {
  double lane[kLanes] = {};
  const int body = n - n % kLanes;
  for (int i = 0; i < body; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += static_cast<double>(x[i + j]);
  }
  for (int i = body; i < n; ++i) lane[i - body] += static_cast<double>(x[i]);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

template <class T>
double sum(int n, const T* x) {
  return n < 64 ? sum_in_lanes<4>(n, x) : sum_in_lanes<16>(n, x);
}

template <class T>
void fill(int n, T value, T* out) {
  for (int i = 0; i < n; ++i) out[i] = value;
}

template <class T>
void add(int n, T* __restrict out, const T* __restrict x) {
  for (int i = 0; i < n; ++i) out[i] += x[i];
}

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
  k.sum = sum<T>;
  k.fill = fill<T>;
  k.add = add<T>;
  k.reparameterize = reparameterize_tile;
  k.reparameterize_dlogvar = reparameterize_dlogvar_tile;
  k.add_reparameterize_dlogvar = add_reparameterize_dlogvar_tile;
  k.reparameterize_dnoise = reparameterize_dnoise_tile;
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
