// Elementwise kernels: a formula from groups of inputs to groups of outputs. The same bodies, with
// some of their outputs summed, are what reduce.cuh runs.
#pragma once

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

// A Formula has kInputs, kOutputs and
//   template <class T> static void apply(const T (&in)[kInputs], T (&out)[kOutputs]).
// The first kSums outputs are terms of sums; the others are stored where they are wanted. kHeavy: a
// body that needs more registers than Variant::kMinBlocks leaves.
template <class Formula_, int kSums_ = 0>
struct Map {
  using Formula = Formula_;
  static constexpr int kSums = kSums_;
  static constexpr int kInputs = Formula::kInputs;
  static constexpr int kOutputs = Formula::kOutputs;
  static constexpr bool kHeavy = kInputs > 5;

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

  // terms [kSums][kWidth]
  template <class V, class Terms>
  VAE_EXT_DEVICE void run(const Span& span, Terms& terms) const {
    typename V::T y[kOutputs][V::kWidth];
    compute<V>(span, y);
#pragma unroll
    for (int i = kSums; i < kOutputs; ++i) {
      if (wanted[i]) store<V>(out[i], span, y[i]);
    }
    if constexpr (kSums > 0) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
#pragma unroll
        for (int j = 0; j < V::kWidth; ++j) terms[i][j] = y[i][j];
      }
    }
  }

  template <class V, class T>
  VAE_EXT_DEVICE void compute(const Span& span, T (&y)[kOutputs][V::kWidth]) const {
    Bits bits[kInputs];
#pragma unroll
    for (int i = 0; i < kInputs; ++i) bits[i] = fetch<V>(in[i], span);
    T x[kInputs][V::kWidth];
#pragma unroll
    for (int i = 0; i < kInputs; ++i) values<V>(in[i], bits[i], span, x[i]);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      T a[kInputs], b[kOutputs];
#pragma unroll
      for (int i = 0; i < kInputs; ++i) a[i] = x[i][j];
      Formula::apply(a, b);
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) y[i][j] = b[i];
    }
    if (weighted) weigh<V>(span, y);
  }

 private:
  template <class V, class T>
  VAE_EXT_DEVICE void weigh(const Span& span, T (&y)[kOutputs][V::kWidth]) const {
    T w[V::kWidth];
    values<V>(weights, fetch<V>(weights, span), span, w);
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) y[i][j] = w[j] == T(0) ? T(0) : y[i][j] * w[j];
    }
  }
};

template <class V>
VAE_EXT_DEVICE Span span_at(int64_t start, int64_t begin, int64_t end) {
  return {start, start < begin ? static_cast<int>(begin - start) : 0,
          end - start < V::kWidth ? static_cast<int>(end - start) : V::kWidth};
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
  typename V::T terms[1][V::kWidth];
  if (start < numel) body.template run<V>(span_at<V>(start, 0, numel), terms);
}

// Calls launch(Variant, body) for the body that make(width) gives, with the best kernel for its
// operands. `lead` is the dtype of the tensors that matter, `wide` asks for double arithmetic.
template <class Make, class Launch>
void with_variant(ScalarType lead, bool is_double, Make make, Launch launch) {
  const Storage storage = storage_of(lead);
  const auto uniform = [&](const auto& body) {
    bool same = true;
    body.each_operand([&](const Operand& o) {
      same = same && !o.strided() && !(o.vectors() && o.storage != storage);
    });
    return same;
  };
  const bool half = storage == Storage::kHalf || storage == Storage::kBFloat16;
  const auto body = make(half ? 8 : 4);
  if (uniform(body) && is_double == (storage == Storage::kDouble)) {
    switch (storage) {
      case Storage::kFloat:
        return launch(Variant<float, 4, true, Storage::kFloat>{}, body);
      case Storage::kDouble:
        return launch(Variant<double, 4, true, Storage::kDouble>{}, body);
      case Storage::kHalf:
        return launch(Variant<float, 8, true, Storage::kHalf>{}, body);
      case Storage::kBFloat16:
        return launch(Variant<float, 8, true, Storage::kBFloat16>{}, body);
      default:
        break;
    }
  }
  const auto any = half ? make(4) : body;
  is_double ? launch(Variant<double, 4, false>{}, any) : launch(Variant<float, 4, false>{}, any);
}

// Elementwise over `numel` elements.
template <class Make>
void launch_elementwise(const Launcher& launcher, int64_t numel, ScalarType lead, bool is_double,
                        Make make) {
  with_variant(lead, is_double, make, [&](auto variant, const auto& body) {
    using V = decltype(variant);
    launcher(elementwise_kernel<V, std::decay_t<decltype(body)>>, blocks_for<V>(numel), body,
             numel);
  });
}

}  // namespace vae_ext
