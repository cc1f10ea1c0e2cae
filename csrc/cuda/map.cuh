// Elementwise kernels: a formula from groups of inputs to groups of outputs. The same bodies, with
// some of their outputs summed, are what reduce.cuh runs.
//
// A body has
//   kSums         terms that it gives to be summed
//   kHeavy, kHeavyWide
//                 what it leaves out of kMinBlocks, since it needs more registers
//   kCostly       whether its arithmetic outweighs its loads: groups of 4 are enough
//   each_operand  calls a function with every tensor
//   OneByOne      if there is one, it goes element by element
//   fits(width)   whether it can run in such groups, its operands apart
//   run<V, kRange>(start, sums)
//                 does the group that starts there, and adds its terms by sums.add(k, terms).
//                 False: nothing was done, since the group's numbers need the full range
#pragma once

#include <algorithm>
#include <array>
#include <type_traits>

#include "groups.cuh"
#include "launch_config.cuh"

namespace vae_ext {

#if defined(VAE_EXT_CUDA_ON_HOST)
#define VAE_EXT_PARAMETER const
#else
#define VAE_EXT_PARAMETER const __grid_constant__  // read where it is, never copied
#endif

// Where terms go that nobody sums.
struct NoSums {
  template <class T, int kWidth>
  VAE_EXT_DEVICE void add(int, const T (&)[kWidth]) {}
};

// A Formula has kInputs, kOutputs, kExponents (a bit for each input that an exponential is taken
// of), kTarget and kLargestTarget (the input of which it takes no others, or -1) and
//   template <ExpRange, class T> static void apply(const T (&in)[kInputs], T (&out)[kOutputs]),
// which within bounds may count on both.
// The first kSums outputs are terms of sums; the others are stored where they are wanted.
template <class Formula_, int kSums_ = 0>
struct Map {
  using Formula = Formula_;
  static constexpr int kSums = kSums_;
  static constexpr int kInputs = Formula::kInputs;
  static constexpr int kOutputs = Formula::kOutputs;
  static constexpr bool kCostly = Formula::kCostly;
  // Beside a sum, as many groups of results as a KL to a given prior has gradients.
  static constexpr bool kManyResults = kSums > 0 && kOutputs > 4 && (!kCostly || kInputs <= 5);
  static constexpr int kHeavy = (kInputs > 5 || (kSums > 0 && kInputs > 3)) +
                                (kSums > 0 && kInputs > 6) + (kSums > 1 && kInputs > 4) +
                                kManyResults;
  static constexpr int kHeavyWide =
      kSums == 0 ? kInputs > 5
                 : std::min(2, (kInputs > 3) + (kInputs > 4) + (kOutputs > kSums)) + kManyResults;

  Operand in[kInputs];
  Operand out[kOutputs];
  bool wanted[kOutputs] = {};
  Operand weights;  // of the elements: what has weight 0 gives 0, even if it would be NaN
  bool weighted = false;

  void set(int i, const Operand& to) {
    out[i] = to;
    wanted[i] = true;
  }

  template <class F>
  void each_operand(F f) const {
    for (const Operand& o : in) f(o);
    if (weighted) f(weights);
    for (int i = kSums; i < kOutputs; ++i) {
      if (wanted[i]) f(out[i]);
    }
  }

  bool fits(int) const { return true; }

  template <class V, ExpRange kRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums& sums) const {
    typename V::T y[kOutputs][V::kWidth];
    if (!compute<V, kRange>(start, y)) return false;
#pragma unroll
    for (int i = kSums; i < kOutputs; ++i) {
      if (wanted[i]) store<V>(out[i], start, y[i]);
    }
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums.add(i, y[i]);
    return true;
  }

  template <class V, ExpRange kRange, class T>
  VAE_EXT_DEVICE bool compute(int64_t start, T (&y)[kOutputs][V::kWidth]) const {
    Bits bits[kInputs];
#pragma unroll
    for (int i = 0; i < kInputs; ++i) bits[i] = fetch<V>(in[i], start);
    T x[kInputs][V::kWidth];
#pragma unroll
    for (int i = 0; i < kInputs; ++i) values<V>(in[i], bits[i], start, x[i]);
    if constexpr (kRange == ExpRange::kBounded) {
#pragma unroll
      for (int i = 0; i < kInputs; ++i) {
        if ((Formula::kExponents >> i & 1) != 0 && !bounded(x[i])) return false;
        if (Formula::kTarget == i && !in_range(x[i], Formula::kLargestTarget)) return false;
      }
    }
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      T a[kInputs], b[kOutputs];
#pragma unroll
      for (int i = 0; i < kInputs; ++i) a[i] = x[i][j];
      Formula::template apply<kRange>(a, b);
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) y[i][j] = b[i];
    }
    if (weighted) weigh<V>(start, y);
    return true;
  }

 private:
  template <class V, class T>
  VAE_EXT_DEVICE void weigh(int64_t start, T (&y)[kOutputs][V::kWidth]) const {
    T w[V::kWidth];
    values<V>(weights, fetch<V>(weights, start), start, w);
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) y[i][j] = w[j] == T(0) ? T(0) : y[i][j] * w[j];
    }
  }
};

VAE_EXT_DEVICE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// `count` elements from `start` on, a group at most: at once, if it is whole and its numbers are
// within bounds. Which formula serves an element depends on its own numbers alone, and so its
// results have the same bits in any layout.
template <class V, class Body, class Sums>
VAE_EXT_DEVICE void run_elements(const Body& body, int64_t start, int count, Sums& sums) {
  using Single = typename V::Single;
  if constexpr (V::kWidth > 1) {
    if (count == V::kWidth && body.template run<V, ExpRange::kBounded>(start, sums)) return;
  }
#pragma unroll 1
  for (int64_t i = start; i < start + count; ++i) {
    if constexpr (sizeof(typename V::T) == sizeof(float)) {
      if (body.template run<Single, ExpRange::kBounded>(i, sums)) continue;
    }
    body.template run<Single, ExpRange::kFull>(i, sums);
  }
}

// Where the groups of a thread start that reads a tensor from its beginning.
template <class V>
VAE_EXT_DEVICE int64_t first_of_thread() {
  return (static_cast<int64_t>(blockIdx.x) * kThreads + static_cast<int64_t>(threadIdx.x)) *
         V::kWidth;
}

// A group per thread.
template <class V, class Body>
__global__ void __launch_bounds__(kThreads, kMinBlocks<V, Body>)
    elementwise_kernel(VAE_EXT_PARAMETER Body body, int64_t numel) {
  const int64_t start = first_of_thread<V>();
  NoSums none;
  run_elements<V>(body, start, static_cast<int>(smaller(numel - start, V::kWidth)), none);
}

// The best for groups, where the operands allow for any.
template <class Make, class Launch>
void with_groups(Storage storage, int64_t unit, Make make, Launch launch) {
  const auto in_groups = [&](const auto& body, int width, bool of_one_dtype) {
    bool all = unit % width == 0 && body.fits(width);
    body.each_operand([&](const Operand& o) {
      all = all && !o.strided() && !(of_one_dtype && o.vectors() && o.storage != storage);
    });
    return all;
  };
  const bool half = storage == Storage::kHalf || storage == Storage::kBFloat16;
  if (half || storage == Storage::kFloat) {
    constexpr int kWidest = std::decay_t<decltype(make(4))>::kCostly ? 4 : 8;
    const int width = half ? kWidest : 4;
    const auto body = make(width);
    if (in_groups(body, width, true)) {
      if (storage == Storage::kFloat) {
        return launch(Variant<float, 4, Tensors::kPlain, Storage::kFloat>{}, body);
      }
      if (storage == Storage::kHalf) {
        return launch(Variant<float, kWidest, Tensors::kPlain, Storage::kHalf>{}, body);
      }
      return launch(Variant<float, kWidest, Tensors::kPlain, Storage::kBFloat16>{}, body);
    }
  }
  const auto body = make(4);
  if (in_groups(body, 4, false)) return launch(Variant<float, 4, Tensors::kVectors>{}, body);
  launch(Variant<float, 1, Tensors::kAny>{}, make(1));
}

// Calls launch(Variant, body) for the body that make(width) gives, with the best kernel for its
// operands. `lead` is the dtype of the tensors that matter, `is_double` asks for double arithmetic;
// every `unit` elements must be whole groups.
template <class Make, class Launch>
void with_variant(ScalarType lead, bool is_double, int64_t unit, Make make, Launch launch) {
  const Storage storage = storage_of(lead);
  if (is_double) return launch(Variant<double, 1, Tensors::kAny>{}, make(1));
  if constexpr (requires { typename std::decay_t<decltype(make(1))>::OneByOne; }) {
    return launch(Variant<float, 1, Tensors::kAny>{}, make(1));
  } else {
    with_groups(storage, unit, make, launch);
  }
}

// Elementwise over `numel` elements.
template <class Make>
void launch_elementwise(const Launcher& launcher, int64_t numel, ScalarType lead, bool is_double,
                        Make make) {
  with_variant(lead, is_double, 8, make, [&](auto variant, const auto& body) {
    using V = decltype(variant);
    launcher(elementwise_kernel<V, std::decay_t<decltype(body)>>, blocks_for<V>(numel), body,
             numel);
  });
}

}  // namespace vae_ext
