// The tile kernels of one instruction set as a program without torch, for processors that are only
// emulated here. Built and run by tools/other_processor.py, which compares what it writes.
//
//     run_tiles WHAT TYPE N [NUMBERS]     inputs on stdin, results on stdout, as they are in memory
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../cpu/kernels.h"
#include "../math/formula.h"

namespace vae_ext {

namespace baseline {
extern const KernelSet kernel_set_of_level;
}

namespace {

template <class T>
const Kernels<T>& kernels_of_type() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return baseline::kernel_set_of_level.single;
  } else {
    return baseline::kernel_set_of_level.dbl;
  }
}

template <class T>
std::vector<T> read(size_t n) {
  std::vector<T> found(n);
  if (std::fread(found.data(), sizeof(T), n, stdin) != n) std::exit(2);
  return found;
}

template <class T>
void write(const T* x, size_t n) {
  std::fwrite(x, sizeof(T), n, stdout);
}

// The value and the gradients by each input; then both from the one pass over them.
template <class T>
void run_formula(const FormulaKernels<T>& k, int inputs, int n) {
  std::vector<std::vector<T>> in(inputs);
  for (auto& x : in) x = read<T>(n);
  std::vector<T> value(n), ones(n, T(1));
  std::vector<std::vector<T>> d(inputs, std::vector<T>(n));
  const auto each_tile = [&](auto run) {
    for (int at = 0; at < n; at += kTile) {
      const T* source[8];
      T* to[8];
      for (int i = 0; i < inputs; ++i) source[i] = &in[i][at], to[i] = &d[i][at];
      run(n - at < kTile ? n - at : kTile, at, source, to);
    }
  };
  const auto write_all = [&] {
    write(value.data(), n);
    for (const auto& x : d) write(x.data(), n);
  };
  each_tile([&](int m, int at, const T* const* source, T* const* to) {
    k.value(m, &value[at], source);
    k.gradients(m, to, &ones[at], source);
  });
  write_all();
  each_tile([&](int m, int at, const T* const* source, T* const* to) {
    k.value_and_gradients(m, &value[at], to, source, T(1));
  });
  write_all();
}

// Elements with several parameters: the values and the gradients by the parameters.
template <class T>
void run_group(const GroupKernels<T>& k, int parameters, int n) {
  std::vector<std::vector<T>> in(parameters), d(parameters, std::vector<T>(n));
  for (auto& x : in) x = read<T>(n);
  const std::vector<T> target = read<T>(n), ones(n, T(1));
  std::vector<T> value(n), scratch(static_cast<size_t>(parameters) * kGroupTile);
  const double numbers[] = {256., -7.};
  for (int at = 0; at < n; at += kGroupTile) {
    std::vector<const T*> source;
    std::vector<T*> to;
    for (int i = 0; i < parameters; ++i) source.push_back(&in[i][at]), to.push_back(&d[i][at]);
    const T* of_targets[] = {&target[at]};
    const GroupTiles<T> tiles{parameters, source.data(), 1, of_targets, numbers, scratch.data()};
    k.run(n - at < kGroupTile ? n - at : kGroupTile, tiles, &value[at], to.data(), &ones[at]);
  }
  write(value.data(), n);
  for (const auto& x : d) write(x.data(), n);
}

// The log-densities of a block of rows under a panel of components, [rows, components].
template <class T>
void run_mixture(const MixtureKernels<T>& k, int64_t dims) {
  const auto z = read<T>(dims * kMixtureRows), mean = read<T>(dims * kMixturePanel);
  const auto inverse = read<T>(dims * kMixturePanel);
  const auto c = read<double>(kMixturePanel);
  std::vector<double> terms(kMixtureRows * kMixturePanel);
  k.terms(dims, z.data(), mean.data(), inverse.data(), c.data(), terms.data());
  write(terms.data(), terms.size());
}

template <class T>
void run(const std::string& what, int n, char** more) {
  const Kernels<T>& k = kernels_of_type<T>();
  const auto number = [&](int i) { return std::strtoull(more[i], nullptr, 10); };
  if (what == "noise" || what == "words") {
    std::vector<T> buffer(kNoiseBuffer);
    std::vector<int64_t> words(kTile);
    for (int at = 0; at < n; at += kTile) {
      const int m = n - at < kTile ? n - at : kTile;
      const uint64_t start = number(2) + static_cast<uint64_t>(at);
      if (what == "noise") {
        write(k.noise(m, number(0), number(1), start, buffer.data()), m);
      } else {
        k.words(m, number(0), number(1), start, words.data());
        write(words.data(), m);
      }
    }
  } else if (what == "sum") {
    const auto x = read<T>(n);
    const double total = k.sum(n, x.data());
    write(&total, 1);
  } else if (what == "halves") {  // every number of each kind, loaded and stored
    for (const Storage storage : {Storage::kHalf, Storage::kBFloat16}) {
      const auto source = read<uint16_t>(n);
      std::vector<T> wide(n);
      std::vector<uint16_t> back(n);
      k.load(n, storage, source.data(), 1, wide.data());
      k.store(n, storage, wide.data(), back.data(), 1);
      write(wide.data(), n);
      write(back.data(), n);
    }
  } else if (what == "mixture") {
    run_mixture<T>(k.mixture, n);
#define VAE_EXT_GROUP(name, ...) \
  }                              \
  else if (what == #name) {      \
    run_group<T>(k.name, static_cast<int>(number(0)), n);
#include "../ops/groups.def"
#define VAE_EXT_LIKELIHOOD(name, ...) \
  }                                   \
  else if (what == #name) {           \
    run_formula<T>(k.name[0], static_cast<int>(number(0)), n);
#define VAE_EXT_DIVERGENCE(name, ...)   \
  VAE_EXT_LIKELIHOOD(name)              \
  }                                     \
  else if (what == "standard_" #name) { \
    run_formula<T>(k.standard_##name[0], static_cast<int>(number(0)), n);
#include "../ops/formulas.def"
  } else {
    std::fprintf(stderr, "no kernel is called %s\n", what.c_str());
    std::exit(1);
  }
}

}  // namespace
}  // namespace vae_ext

int main(int argc, char** argv) {
  if (argc < 4) return 1;
  const int n = std::atoi(argv[3]);
  if (std::strcmp(argv[2], "float64") == 0) {
    vae_ext::run<double>(argv[1], n, argv + 4);
  } else {
    vae_ext::run<float>(argv[1], n, argv + 4);
  }
  return 0;
}
