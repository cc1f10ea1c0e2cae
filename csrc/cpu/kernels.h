// The tile kernels: loops over a few hundred unit-stride elements, compiled once per instruction
// set. Strides, threads and reductions are the business of operand.h and reduce.h.
#pragma once

#include <stdint.h>

#include "../math/draw_gradient.h"
#include "../math/storage.h"

namespace vae_ext {

// Elements of a tile: the buffers of one op stay in the first-level cache.
constexpr int kTile = 256;
constexpr int kNoiseBlocks = kTile / 4;       // of noise_of_blocks, at most; whole vectors of them
constexpr int kNoiseBuffer = kTile + 4 * 16;  // for a block more than a tile, and whole vectors

// The loops over a formula's inputs, which are as many tiles.
template <class T>
struct FormulaKernels {
  void (*value)(int n, T* out, const T* const* in);
  // Of each input whose gradient has somewhere to go, for the incoming gradients g.
  void (*gradients)(int n, T* const* out, const T* g, const T* const* in);
  // Both for one incoming gradient: all gradients but the target's, each of which has somewhere to
  // go.
  void (*value_and_gradients)(int n, T* value, T* const* out, const T* const* in, T g);
  // Whether any target is outside of what the formula takes; null where it takes all.
  bool (*any_refused)(int n, const T* targets);
  const char* targets;  // what it takes, in words
};

// By its form, of which no formula has more.
constexpr int kMaxForms = 3;
template <class Function>
using ByForm = Function[kMaxForms];
template <class T>
using FormulaTable = FormulaKernels<T>[kMaxForms];

// Elements that have several parameters each: a tile of each parameter, and of each target.
constexpr int kGroupTile = 64;
template <class T>
struct GroupTiles {
  int count;  // of parameters
  const T* const* parameters;
  int targets_count;
  const T* const* targets;
  const double* numbers;
  T* scratch;  // a tile for each parameter
};
template <class T>
struct GroupKernels {
  // The values, and for the incoming gradients g those of the parameters, unless d is null.
  void (*run)(int n, const GroupTiles<T>& in, T* value, T* const* d, const T* g);
  // The same of one element whose n parameters lie side by side; null where there is no such loop.
  void (*run_row)(int n, const T* parameters, T target, T* value, T* d, T g);
  // Whether any target is outside of what is taken.
  bool (*any_refused)(int n, const GroupTiles<T>& in);
};

// A mixture of diagonal Gaussians: blocks of rows, [dims][kMixtureRows], against panels of
// components, [dims][kMixturePanel]; what belongs to a row and a component, [rows][components].
constexpr int kMixtureRows = 32, kMixturePanel = 16;
template <class T>
struct MixtureKernels {
  void (*inverse_scales)(int n, const T* logvar, T* out);
  void (*terms)(int64_t dims, const T* z, const T* mean, const T* inverse, const double* c,
                double* out);
  void (*add)(int panels, const double* terms, double* most, T* sums);
  void (*shares)(const double* terms, const double* log_sum, const T* g, T* q);
  void (*z_gradient)(int64_t dims, int panels, int64_t step, const T* z, const T* mean,
                     const T* inverse, const T* q, double* out);
  void (*parameter_gradients)(int64_t dims, const T* z, const T* mean, const T* inverse, const T* q,
                              double* by_mean, double* by_logvar, double* by_weight);
};

// T is the arithmetic type: float for everything but double tensors.
template <class T>
struct Kernels {
  // Strided conversion between a tensor's storage and T; strides in elements.
  void (*load)(int n, Storage storage, const void* source, int64_t stride, T* out);
  void (*store)(int n, Storage storage, const T* source, void* out, int64_t stride);

  // Standard normals of elements start ... start + n - 1. The buffer holds kNoiseBuffer; the noise
  // begins at the returned pointer, since blocks of four are drawn whole.
  const T* (*noise)(int n, uint64_t seed, uint64_t stream, uint64_t start, T* buffer);

  // Those of whole blocks, at most kNoiseBlocks; the list is readable, and `out` has room, to whole
  // vectors.
  void (*noise_of_blocks)(int n, uint64_t seed, uint64_t stream, const uint64_t* blocks, T* out);

  // The words themselves.
  void (*words)(int n, uint64_t seed, uint64_t stream, uint64_t start, int64_t* out);

  // The sum in double, in an order that depends on n alone.
  double (*sum)(int n, const T* x);
  // out += x
  void (*fill)(int n, T value, T* out);
  void (*add)(int n, T* out, const T* x);
  void (*add_to_sums)(int n, double* sums, const T* x);
  // x where the weight is not 0, else 0; and in place, times the weight.
  void (*mask)(int n, T* out, const T* x, const T* weights);
  void (*weigh)(int n, T* x, const T* weights);

  // Bounds on logvar, hard or soft: the values, and the gradients multiplied in place.
  void (*bound)(int n, bool soft, T* out, const T* x, T low, T high);
  void (*bound_gradient)(int n, bool soft, T* g, const T* x, T low, T high);

  // By the form of the scale.
  ByForm<void (*)(int n, T* out, const T* mu, const T* scale, const T* eps)> reparameterize;
  ByForm<void (*)(int n, T* out, const T* g, const T* scale, const T* eps)> reparameterize_dscale;
  // out += the same
  ByForm<void (*)(int n, T* out, const T* g, const T* scale, const T* eps)>
      add_reparameterize_dscale;
  void (*reparameterize_dnoise)(int n, T* out, const T* g, const T* logvar);

  void (*log_q)(int n, T* out, const T* logvar, const T* eps);
  void (*log_p)(int n, T* out, const T* z);
  // Added to both outputs.
  void (*add_sample_gradients)(int n, DrawGradient gradient, T* dmu, T* dlogvar, const T* grad_z,
                               const T* grad_q, const T* grad_p, const T* mu, const T* logvar,
                               const T* eps);

  ByForm<void (*)(int n, T* z, T* kl, const T* mu, const T* scale, const T* eps)>
      reparameterize_with_kl;
  void (*reparameterize_with_kl_dmu)(int n, T* out, const T* grad_z, const T* grad_kl, const T* mu);
  ByForm<void (*)(int n, T* out, const T* grad_z, const T* grad_kl, const T* scale, const T* eps)>
      reparameterize_with_kl_dscale;

  // The formulas of formulas.def; of a divergence also the one of its required inputs alone.
#define VAE_EXT_LIKELIHOOD(name, Formula, ...) FormulaTable<T> name;
#define VAE_EXT_DIVERGENCE(name, Formula, ...) FormulaTable<T> name, standard_##name;
#include "../ops/formulas.def"
  // Those of groups.def.
#define VAE_EXT_GROUP(name, ...) GroupKernels<T> name;
#include "../ops/groups.def"
  MixtureKernels<T> mixture;
};

struct KernelSet {
  const char* level;
  Kernels<float> single;
  Kernels<double> dbl;
};

// The sets compiled in, best first; `supported` says which the processor can run.
int kernel_set_count();
const KernelSet& kernel_set(int i);
bool kernel_set_supported(int i);

// The set in use: the best supported one, unless VAE_EXT_SIMD or set_simd_level named another.
const KernelSet& active_kernels();
void set_simd_level(const char* level);

template <class T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels<float>() {
  return active_kernels().single;
}
template <>
inline const Kernels<double>& kernels<double>() {
  return active_kernels().dbl;
}

}  // namespace vae_ext
