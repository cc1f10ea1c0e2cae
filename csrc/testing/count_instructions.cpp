// Runs each tile kernel of the AVX2 level once on a tile, under valgrind's callgrind, which writes
// for each how many instructions that took. Built and read by tools/count.py.
#include <valgrind/callgrind.h>

#include <cstdio>
#include <string>
#include <vector>

#include "../cpu/kernels.h"
#include "../math/count_mixtures.h"
#include "../math/divergences.h"
#include "../math/likelihoods.h"

namespace vae_ext {

namespace avx2 {
extern const KernelSet kernel_set_of_level;
}

namespace {

constexpr int kInputs = 5;
constexpr float kFar = 60.f;  // beyond what the short exponential takes
const char* const kForms[] = {"", " form 1", " form 2"};

struct Tiles {
  alignas(64) float in[kInputs][kTile], out[kInputs][kTile], noise[kNoiseBuffer];
  alignas(64) double sums[kTile];
  alignas(64) uint64_t blocks[kTile];
  alignas(64) char stored[8 * kTile];

  Tiles() {
    for (int i = 0; i < kTile; ++i) {
      for (int j = 0; j < kInputs; ++j) in[j][i] = 0.25f + 0.125f * static_cast<float>((i + j) % 5);
      blocks[i] = static_cast<uint64_t>(i);
    }
    for (char& c : stored) c = 1;
  }
};

// Once for what is only done the first time, and once for the count.
template <class Run>
void count(const std::string& name, Run run) {
  run();
  CALLGRIND_ZERO_STATS;
  run();
  CALLGRIND_DUMP_STATS_AT(name.c_str());
}

void count_conversions(const Kernels<float>& k, Tiles& t) {
  const std::pair<const char*, Storage> storages[] = {
      {"float32", Storage::kFloat}, {"float64", Storage::kDouble}, {"bfloat16", Storage::kBFloat16},
      {"float16", Storage::kHalf},  {"uint8", Storage::kByte},     {"int64", Storage::kInt64},
  };
  for (const auto& [name, storage] : storages) {
    const Storage s = storage;
    count(std::string("load ") + name, [&] { k.load(kTile, s, t.stored, 1, t.out[0]); });
    if (!is_floating(s)) continue;
    count(std::string("store ") + name, [&] { k.store(kTile, s, t.in[0], t.stored, 1); });
  }
}

void count_noise(const Kernels<float>& k, Tiles& t) {
  count("noise", [&] { k.noise(kTile, 1, 0, 0, t.noise); });
  count("noise from element 1", [&] { k.noise(kTile, 1, 0, 1, t.noise); });
  count("noise of blocks", [&] { k.noise_of_blocks(kTile / 4, 1, 0, t.blocks, t.noise); });
}

void count_sums(const Kernels<float>& k, Tiles& t) {
  count("sum", [&] { k.sum(kTile, t.in[0]); });
  count("add", [&] { k.add(kTile, t.out[0], t.in[0]); });
  count("add to sums", [&] { k.add_to_sums(kTile, t.sums, t.in[0]); });
  count("mask", [&] { k.mask(kTile, t.out[0], t.in[0], t.in[1]); });
  count("weigh", [&] { k.weigh(kTile, t.out[0], t.in[0]); });
  for (const bool soft : {false, true}) {
    const std::string kind = soft ? " soft" : " hard";
    count("bound" + kind, [&] { k.bound(kTile, soft, t.out[0], t.in[0], -30.f, 20.f); });
    count("bound gradient" + kind,
          [&] { k.bound_gradient(kTile, soft, t.out[0], t.in[0], -30.f, 20.f); });
  }
}

void count_samples(const Kernels<float>& k, Tiles& t, const std::string& range) {
  auto& in = t.in;
  auto& out = t.out;
  for (int form = 0; form < 3; ++form) {
    const std::string more = kForms[form] + range;
    count("reparameterize" + more,
          [&] { k.reparameterize[form](kTile, out[0], in[0], in[1], in[2]); });
    count("reparameterize dscale" + more,
          [&] { k.reparameterize_dscale[form](kTile, out[0], in[0], in[1], in[2]); });
    count("reparameterize with kl" + more,
          [&] { k.reparameterize_with_kl[form](kTile, out[0], out[1], in[0], in[1], in[2]); });
    count("reparameterize with kl dscale" + more, [&] {
      k.reparameterize_with_kl_dscale[form](kTile, out[0], in[0], in[2], in[1], in[3]);
    });
  }
  count("reparameterize with kl dmu" + range,
        [&] { k.reparameterize_with_kl_dmu(kTile, out[0], in[0], in[1], in[2]); });
  count("log q" + range, [&] { k.log_q(kTile, out[0], in[1], in[2]); });
  count("log p" + range, [&] { k.log_p(kTile, out[0], in[0]); });
  const std::pair<const char*, DrawGradient> gradients[] = {
      {"reparameterized", DrawGradient::kReparameterized},
      {"score", DrawGradient::kScore},
      {"sticking the landing", DrawGradient::kStickingTheLanding},
  };
  for (const auto& [name, gradient] : gradients) {
    const DrawGradient g = gradient;
    count(std::string("sample gradients ") + name + range, [&] {
      k.add_sample_gradients(kTile, g, out[0], out[1], in[0], in[2], in[3], in[4], in[1], in[0]);
    });
  }
}

template <class F>
void count_formula(const FormulaTable<float>& table, const std::string& name, Tiles& t,
                   const std::string& range) {
  const float* in[kInputs];
  float* out[kInputs];
  for (int i = 0; i < kInputs; ++i) in[i] = t.in[i], out[i] = t.out[i];
  alignas(64) float value[kTile];
  for (int form = 0; form < kFormsOf<F>; ++form) {
    const FormulaKernels<float>& k = table[form];
    const std::string of = name + kForms[form];
    count(of + " value" + range, [&] { k.value(kTile, value, in); });
    count(of + " gradients" + range, [&] { k.gradients(kTile, out, t.in[0], in); });
    count(of + " both" + range, [&] { k.value_and_gradients(kTile, value, out, in, -1.f); });
  }
}

void count_formulas(const Kernels<float>& k, Tiles& t, const std::string& range) {
#define VAE_EXT_LIKELIHOOD(name, Formula, ...) count_formula<Formula>(k.name, #name, t, range);
#define VAE_EXT_DIVERGENCE(name, Formula, ...)     \
  count_formula<Formula>(k.name, #name, t, range); \
  count_formula<Formula::Standard>(k.standard_##name, "standard " #name, t, range);
#include "../ops/formulas.def"
}

// Of the formulas that are split at a target of 0: counts, one of `of_few` as `few` is.
void count_counts(const Kernels<float>& k, Tiles& t, const std::string& range, float most,
                  float few, int of_few) {
  for (int i = 0; i < kTile; ++i) t.in[1][i] = i % of_few == 0 ? few : most;
#define VAE_EXT_DIVERGENCE(...)
#define VAE_EXT_LIKELIHOOD(name, Formula, ...) \
  if constexpr (kSplitsAtZero<Formula>) count_formula<Formula>(k.name, #name, t, range);
#include "../ops/formulas.def"
}

// Of a tile of elements with ten parameters each: ten classes, or a component of three channels.
void count_group(const GroupKernels<float>& k, const std::string& name, int targets) {
  constexpr int kParameters = 10, kTimes = kTile / kGroupTile;
  alignas(64) float in[kParameters][kGroupTile], out[kParameters][kGroupTile];
  alignas(64) float target[kGroupTile], scratch[kParameters * kGroupTile], value[kGroupTile];
  const float *parameters[kParameters], *of_targets[] = {target, target, target};
  float* d[kParameters];
  for (int j = 0; j < kParameters; ++j) {
    parameters[j] = in[j], d[j] = out[j];
    for (int i = 0; i < kGroupTile; ++i)
      in[j][i] = 0.25f + 0.125f * static_cast<float>((i + j) % 5);
  }
  for (int i = 0; i < kGroupTile; ++i) target[i] = static_cast<float>(i % 2);
  const double numbers[] = {256., -7.};
  const GroupTiles<float> tiles{kParameters, parameters, targets, of_targets, numbers, scratch};
  const auto run = [&](float* const* to) {
    for (int i = 0; i < kTimes; ++i) k.run(kGroupTile, tiles, value, to, in[0]);
  };
  count(name + " value", [&] { run(nullptr); });
  count(name + " both", [&] { run(d); });
  if (k.run_row == nullptr) return;
  count(name + " row both", [&] {  // a class each of one element
    k.run_row(kTile, in[0], 1.f, value, out[0], 1.f);
  });
}

// Of a block of events and a panel of components in 8 dimensions: an element is two such pairs.
void count_mixture(const MixtureKernels<float>& k) {
  constexpr int kDims = 8, kPairs = kMixtureRows * kMixturePanel;
  static_assert(kPairs == 2 * kTile);
  alignas(64) float z[kDims * kMixtureRows], mean[kDims * kMixturePanel];
  alignas(64) float inverse[kDims * kMixturePanel], g[kMixtureRows], shares[kPairs], sums[kPairs];
  alignas(64) double terms[kPairs], most[kPairs], c[kMixturePanel] = {}, log_sum[kMixtureRows] = {};
  alignas(64) double by_z[kDims * kMixtureRows] = {}, by_parameters[3][kDims * kMixturePanel] = {};
  for (float& x : z) x = 0.5f;
  for (float& x : mean) x = 0.25f;
  for (float& x : inverse) x = 1.f;
  for (float& x : g) x = 1.f;
  for (double& x : most) x = -1;
  for (float& x : sums) x = 1.f;
  count("mixture value", [&] {
    k.terms(kDims, z, mean, inverse, c, terms);
    k.add(1, terms, most, sums);
  });
  const auto weigh = [&] {
    k.terms(kDims, z, mean, inverse, c, terms);
    k.shares(terms, log_sum, g, shares);
  };
  count("mixture gradient by z", [&] {
    weigh();
    k.z_gradient(kDims, 1, 0, z, mean, inverse, shares, by_z);
  });
  count("mixture gradients by parameters", [&] {
    weigh();
    k.parameter_gradients(kDims, z, mean, inverse, shares, by_parameters[0], by_parameters[1],
                          by_parameters[2]);
  });
}

void count_all() {
  const Kernels<float>& k = avx2::kernel_set_of_level.single;
  Tiles t;
  count_conversions(k, t);
  count_noise(k, t);
  count_sums(k, t);
  count_samples(k, t, "");
  count_formulas(k, t, "");
  for (int j : {0, 2, 3, 4}) t.in[j][0] = kFar;  // not the target, which may be at most 1
  count_formulas(k, t, ", far");
  t.in[1][0] = kFar;
  count_samples(k, t, ", far");
  count_formula<StandardGaussianKL>(k.standard_gaussian_kl, "standard gaussian_kl", t,
                                    ", far scale");
  t = Tiles();
  count_counts(k, t, ", few targets 0", 3.f, 0.f, 20);
  count_counts(k, t, ", most targets 0", 0.f, 3.f, 10);
  count_group(k.categorical, "categorical", 1);
  count_group(k.discretized_logistic_mixture, "discretized_logistic_mixture", 3);
  count_mixture(k.mixture);
}

}  // namespace
}  // namespace vae_ext

int main() {
  vae_ext::count_all();
  return 0;
}
