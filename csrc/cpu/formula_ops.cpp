// The ops of formulas.def, forward, backward and both in one pass: their inputs as tiles for the
// loops of formula_loops.inl. Nothing here knows which formula it computes.
#include "../math/count_mixtures.h"
#include "../math/divergences.h"
#include "../math/likelihoods.h"
#include "../ops/stack.h"
#include "gradients.h"
#include "refused.h"

namespace vae_ext {
namespace {

// The inputs, broadcast with each other and converted to T, as streams of tiles. What has weight 0
// is read as 0: padding has no say in how a tile is computed, nor is it refused.
template <class T>
class InputTiles {
 public:
  InputTiles(const FormulaInputs& in, const ReductionPlan& plan) : count_(in.count) {
    if (in.weights) weights_.emplace(*in.weights, plan.shape);
    for (int i = 0; i < count_; ++i) {
      if (in.has(i)) {
        inputs_[i].emplace(*in.tensor[i], plan.shape);
      } else {
        inputs_[i].emplace(static_cast<T>(in.number[i]));
      }
    }
  }

  // compute(tiles) of elements [start, start + n), and what it wrote to `results` weighed.
  template <size_t kResults, class Compute>
  void operator()(int64_t start, int n, const std::array<T*, kResults>& results,
                  Compute compute) const {
    const auto& k = kernels<T>();
    alignas(64) T buffer[kMaxInputs][kTile];
    const T* tiles[kMaxInputs];
    for (int i = 0; i < count_; ++i) tiles[i] = inputs_[i]->tile(start, n, buffer[i]);
    if (!weights_) return compute(tiles);
    alignas(64) T masked[kMaxInputs][kTile], weights_buffer[kTile];
    const T* weights = weights_->tile(start, n, weights_buffer);
    for (int i = 0; i < count_; ++i) {
      k.mask(n, masked[i], tiles[i], weights);
      tiles[i] = masked[i];
    }
    compute(tiles);
    for (T* result : results) {
      if (result != nullptr) k.weigh(n, result, weights);
    }
  }

 private:
  int count_;
  std::optional<Input<T>> weights_;
  std::array<std::optional<Input<T>>, kMaxInputs> inputs_;
};

// Looks at the targets while they are in the cache, and refuses those that the formula does not
// take: bytes of an image, which nobody has divided by 255, would give a likelihood like any other.
template <class T>
class TargetCheck {
 public:
  explicit TargetCheck(const FormulaKernels<T>& k) : k_(k) {}

  void see(int n, const T* const* tiles) {
    if (k_.any_refused == nullptr || !k_.any_refused(n, tiles[1])) return;
    for (int i = 0; i < n; ++i) {
      if (k_.any_refused(1, tiles[1] + i)) refused_.saw(tiles[1][i]);
    }
  }

  void check() const { refused_.check(k_.targets); }

 private:
  const FormulaKernels<T>& k_;
  Refused<T> refused_;
};

template <class T>
void value(const FormulaKernels<T>& k, const FormulaInputs& in, const ReductionPlan& plan,
           const Tensor& out) {
  const InputTiles<T> tiles(in, plan);
  TargetCheck<T> targets(k);
  reduce_terms<T>(plan, out, [&](int64_t start, int n, T* terms) {
    tiles(start, n, std::array{terms}, [&](const T* const* x) {
      targets.see(n, x);
      k.value(n, terms, x);
    });
  });
  targets.check();
}

using Found = std::array<MaybeTensor, kMaxInputs>;  // gradients; an absent input has none

std::array<InputGradient, kMaxInputs> wanted_of(const FormulaInputs& in, OutputMask mask) {
  std::array<InputGradient, kMaxInputs> of;
  for (int i = 0; i < in.count; ++i) of[i] = InputGradient(in.tensor[i], mask[i]);
  return of;
}

template <class T>
Found gradients(const FormulaKernels<T>& k, const FormulaInputs& in, const ReductionPlan& plan,
                const Input<T>& incoming, OutputMask mask) {
  const InputTiles<T> tiles(in, plan);
  return input_gradients<T>(plan, wanted_of(in, mask), [&](int64_t start, int n, T* const* out) {
    alignas(64) T buffer[kTile];
    const T* g = incoming.tile(start, n, buffer);
    std::array<T*, kMaxInputs> results{};
    std::copy_n(out, in.count, results.begin());
    tiles(start, n, results, [&](const T* const* x) { k.gradients(n, out, g, x); });
  });
}

// In one pass every gradient is of the full shape, or summed where its input is one element. Where
// there is a target, the input of that number, it has none, and the prediction has one. Where
// something else is wanted it takes two.
template <class T>
Found value_and_gradients(const FormulaKernels<T>& k, const FormulaInputs& in,
                          const ReductionPlan& plan, const Tensor& out, double expected, int target,
                          OutputMask mask) {
  const T incoming = static_cast<T>(expected * plan.scale());
  const auto of = wanted_of(in, mask);
  bool one_pass = target < 0 || (of[0] && !of[target]);
  for (const InputGradient& g : of) {
    one_pass = one_pass && (!g || g.is_full(plan) || g.is_one_element(plan));
  }
  if (!one_pass) {
    value(k, in, plan, out);
    return gradients(k, in, plan, Input<T>(incoming), mask);
  }
  Found found;
  std::array<std::optional<Output<T>>, kMaxInputs> written;
  std::array<const Tensor*, 1 + kMaxInputs> sums{&out};
  for (int i = 0; i < kMaxInputs; ++i) {
    if (of[i] && !of[i].is_full(plan)) {
      found[i] = empty_like(*of[i].input, of[i].input->scalar_type());
      sums[1 + i] = &*found[i];
    } else if (of[i].input) {
      found[i] = allocate_gradient(plan, of[i]);
      if (of[i]) written[i].emplace(*found[i]);
    }
  }
  const InputTiles<T> tiles(in, plan);
  TargetCheck<T> targets(k);
  sum_everything<T>(plan, sums, [&](int64_t start, int n, T(&terms)[1 + kMaxInputs][kTile]) {
    T* d[kMaxInputs];
    std::array<T*, 1 + kMaxInputs> results{terms[0]};  // all that will be looked at
    for (int i = 0; i < kMaxInputs; ++i) {
      d[i] = written[i] ? written[i]->begin(start, n, terms[1 + i]) : terms[1 + i];
      if (of[i]) results[1 + i] = d[i];
    }
    tiles(start, n, results, [&](const T* const* x) {
      targets.see(n, x);
      k.value_and_gradients(n, terms[0], d, x, incoming);
    });
    for (int i = 0; i < kMaxInputs; ++i) {
      if (written[i]) written[i]->finish(start, n, d[i], terms[1 + i]);
    }
  });
  targets.check();
  return found;
}

// ---- Ops -------------------------------------------------------------------------------------

#define VAE_EXT_LIKELIHOOD(name, Formula_, ...)                        \
  struct name##_op {                                                   \
    using Formula = Formula_;                                          \
    template <class T>                                                 \
    static const FormulaKernels<T>& kernels(const FormulaInputs& in) { \
      return vae_ext::kernels<T>().name[in.form];                      \
    }                                                                  \
  };
#define VAE_EXT_DIVERGENCE(name, Formula_, ...)                        \
  struct name##_op {                                                   \
    using Formula = Formula_;                                          \
    template <class T>                                                 \
    static const FormulaKernels<T>& kernels(const FormulaInputs& in) { \
      const auto& k = vae_ext::kernels<T>();                           \
      const bool standard = in.count == Formula::Standard::kInputs;    \
      return (standard ? k.standard_##name : k.name)[in.form];         \
    }                                                                  \
  };
#include "../ops/formulas.def"

template <class Op>
void forward(Stack& stack) {
  const FormulaInputs in = stack.take_inputs<typename Op::Formula>();
  const ResultSpec p = stack.take_result_spec(in);
  const Tensor out = p.plan.allocate(p.dtype, in.lead());
  p.is_double() ? value(Op::template kernels<double>(in), in, p.plan, out)
                : value(Op::template kernels<float>(in), in, p.plan, out);
  stack.give(0, out);
}

template <class Op>
void backward(Stack& stack) {
  const auto incoming = stack.take<Tensor>();
  const FormulaInputs in = stack.take_inputs<typename Op::Formula>();
  const ResultSpec p = stack.take_result_spec(in);
  const OutputMask mask(stack.take_int());
  const auto run = [&]<class T>(T) {
    return gradients(Op::template kernels<T>(in), in, p.plan, Input<T>::gradient(incoming, p.plan),
                     mask);
  };
  stack.give_gradients(0, p.is_double() ? run(double{}) : run(float{}), in, Op::Formula::kInputs);
}

template <class Op>
void with_gradients(Stack& stack) {
  const FormulaInputs in = stack.take_inputs<typename Op::Formula>();
  const ResultSpec p = stack.take_result_spec(in);
  const auto expected = stack.take<double>();
  const OutputMask mask(stack.take_int());
  const Tensor out = p.plan.allocate(p.dtype, in.lead());
  const auto run = [&]<class T>(T) {
    return value_and_gradients(Op::template kernels<T>(in), in, p.plan, out, expected,
                               Op::Formula::kTarget, mask);
  };
  stack.give_gradients(1, p.is_double() ? run(double{}) : run(float{}), in, Op::Formula::kInputs);
  stack.give(0, out);
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
#define VAE_EXT_DIVERGENCE(name, ...) VAE_EXT_REGISTER_FORMULA(m, name, name##_op)
#define VAE_EXT_LIKELIHOOD(name, ...) VAE_EXT_REGISTER_FORMULA(m, name##_log_likelihood, name##_op)
#include "../ops/formulas.def"
}
