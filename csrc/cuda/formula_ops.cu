// The ops of formulas.def, forward, backward and both in one pass. Words moved per element: the
// inputs, elementwise results one more, and the gradients that are wanted; value and gradients in
// one pass what the backward pass moves. Compiled once for each line of formulas.def, with
// VAE_EXT_PART as its number (csrc/compile_cuda.py).
#include "../math/count_mixtures.h"
#include "../math/divergences.h"
#include "../math/likelihoods.h"
#include "../ops/stack.h"
#include "columns.cuh"

namespace vae_ext {
namespace {

// Whether groups with a target that is refused are not within bounds.
template <class F>
constexpr bool kChecksGroups = kHasLargestTarget<F> && !kSplitsAtZero<F>;

// A kernel cannot raise an error: a refused target becomes NaN, and so do the value and the
// gradients.
template <class F, int kInput, ExpRange kRange, class T>
VAE_EXT_DEVICE T checked(T x) {
  constexpr bool kChecked = kChecksGroups<F> && kRange == ExpRange::kBounded;
  if constexpr (kInput == F::kTarget && kHasLargestTarget<F> && !kChecked) {
    if (refused_target<F>(x)) return T(NAN);
  }
  return x;
}

template <class F>
constexpr float largest_target() {
  if constexpr (kHasLargestTarget<F>) return F::kLargestTarget;
  return 0;
}

// A bit for each input that an exponential is taken of.
template <class F>
constexpr unsigned exponents_of() {
  unsigned bits = 0;
  if constexpr (requires { F::kExponents; }) {
    for (int i : F::kExponents) bits |= 1u << i;
  }
  return bits;
}

template <class F, class I = std::make_integer_sequence<int, F::kInputs>>
struct Bodies;

template <class F, int... I>
struct Bodies<F, std::integer_sequence<int, I...>> {
  static constexpr int N = F::kInputs;

  // The last operand is the form, if there are several.
  static constexpr bool kHasForms = kFormsOf<F> > 1;
  template <class T>
  VAE_EXT_DEVICE static int form_of(T last) {
    return kHasForms ? static_cast<int>(last) : 0;
  }

  struct Value {
    static constexpr bool kCostly = kIsCostly<F>;
    static constexpr int kInputs = N + kHasForms, kOutputs = 1;
    static constexpr unsigned kExponents = exponents_of<F>();
    // Of costly ones each element is checked, which spares registers.
    static constexpr int kTarget = kChecksGroups<F> ? F::kTarget : -1;
    static constexpr float kLargestTarget = largest_target<F>();
    template <ExpRange kRange, class T>
    VAE_EXT_DEVICE static void apply(const T (&in)[kInputs], T (&out)[1]) {
      out[0] = value_of<F, kRange>(form_of(in[kInputs - 1]), checked<F, I, kRange>(in[I])...);
    }
  };
  template <int kSums>
  using ValueMap = Map<Value, kSums>;

  // Of the incoming gradient and the inputs: the value, where kValue, and the gradients, the last
  // of which is first, to be summed where its input is one element.
  template <bool kValue>
  struct Derivatives {
    static constexpr bool kCostly = kIsCostly<F>;
    static constexpr int kInputs = 1 + N + kHasForms, kOutputs = N + kValue;
    static constexpr unsigned kExponents = exponents_of<F>() << 1;
    static constexpr int kTarget = Value::kTarget < 0 ? -1 : 1 + Value::kTarget;
    static constexpr float kLargestTarget = largest_target<F>();
    template <ExpRange kRange, class T>
    VAE_EXT_DEVICE static void apply(const T (&in)[kInputs], T (&out)[kOutputs]) {
      const int form = form_of(in[kInputs - 1]);
      if constexpr (kValue) {
        out[0] = value_of<F, kRange>(form, checked<F, I, kRange>(in[1 + I])...);
      }
      const auto gradients =
          gradients_of<F, kRange>(form, in[0], checked<F, I, kRange>(in[1 + I])...);
      ((out[kValue + (I + 1) % N] = gradients.by[I]), ...);
    }
  };
};

// The inputs, from operand `first` on, and the weights.
template <class F, class Body>
void set_inputs(Body& body, int first, const FormulaInputs& in, const Frame& frame, int width) {
  Operand* operands = body.in + first;
  for (int i = 0; i < in.count; ++i) {
    operands[i] = Operand(in.tensor[i], in.number[i], frame, width);
  }
  if (kFormsOf<F> > 1) operands[in.count] = Operand::constant(static_cast<double>(in.form));
  body.weighted = in.weights.has_value();
  if (body.weighted) body.weights = Operand(*in.weights, frame, width);
}

using Found = std::array<MaybeTensor, kMaxInputs>;

template <class F>
Tensor value(const FormulaInputs& in, const ResultSpec& p) {
  const Frame frame = frame_of(p.plan, in.lead(), p.is_double());
  return reduced<Bodies<F>::template ValueMap>(
      Launcher(in.lead()), p.plan, p.dtype, in.lead(),
      [&](auto& body, int width) { set_inputs<F>(body, 0, in, frame, width); });
}

// The gradients for an incoming one, and the sums of `totals` (the value's) in the same pass.
template <class F, bool kValue, class Incoming>
Found differentiate(const FormulaInputs& in, const ResultSpec& p, OutputMask mask,
                    Incoming incoming, const Totals<kValue>& totals) {
  constexpr int N = F::kInputs;
  using Derivatives = typename Bodies<F>::template Derivatives<kValue>;
  const Launcher launcher(in.lead());
  const auto fill_in = [&](const Frame& frame) {
    return [&in, &incoming, frame](auto& body, int width) {
      body.in[0] = incoming(frame, width);
      set_inputs<F>(body, 1, in, frame, width);
    };
  };
  Found found;
  std::array<InputGradient, N> rotated;  // as Derivatives has them
  for (int i = 0; i < N; ++i) rotated[(i + 1) % N] = InputGradient(in.tensor[i], mask[i]);
  const auto put = [&]<size_t kCount>(const std::array<MaybeTensor, kCount>& gradients) {
    constexpr int kFirst = N - static_cast<int>(kCount);  // the sum is not among them
    for (int i = kFirst; i < N; ++i) {
      if (rotated[i].input) found[(i + N - 1) % N] = gradients[i - kFirst];
    }
  };
  if constexpr (N > 2 && !kValue) {
    const auto rows = summed_rows(p.plan, rotated);
    if (rows[0] >= 0) {
      put(gradients_with_rows<Derivatives>(launcher, p.plan, p.is_double(), in.lead(), rotated,
                                           rows, fill_in(p.plan.shape)));
      return found;
    }
  }
  const Frame frame = frame_of(p.plan, in.lead(), p.is_double());
  const auto fill = fill_in(frame);
  if constexpr (F::kNumbers == 1) {
    const InputGradient& last = rotated[0];
    if (last && last.input->numel() == 1 && !last.is_full(p.plan)) {
      const Tensor sum = empty(shape_of(*last.input), last.input->scalar_type(), in.lead());
      Totals<kValue + 1> more;
      std::copy(totals.out.begin(), totals.out.end(), more.out.begin());
      std::copy(totals.scale.begin(), totals.scale.end(), more.scale.begin());
      more.out[kValue] = sum;
      more.scale[kValue] = 1;
      std::array<InputGradient, N - 1> others;
      std::copy(rotated.begin() + 1, rotated.end(), others.begin());
      put(input_gradients<Map<Derivatives, kValue + 1>>(launcher, p.plan, frame, p.is_double(),
                                                        in.lead(), others, fill, more));
      found[N - 1] = sum;
      return found;
    }
  }
  put(input_gradients<Map<Derivatives, kValue>>(launcher, p.plan, frame, p.is_double(), in.lead(),
                                                rotated, fill, totals));
  return found;
}

template <class F>
bool wants_row(const FormulaInputs& in, const ReductionPlan& plan, OutputMask mask) {
  std::array<InputGradient, F::kInputs> of;
  for (int i = 0; i < F::kInputs; ++i) of[i] = InputGradient(in.tensor[i], mask[i]);
  return F::kInputs > 2 && summed_rows(plan, of)[0] >= 0;
}

// run<F>() for the formula, or for that of its required inputs alone where the others are absent;
// for its first form alone where it is in that.
template <class F, class Run>
auto with_form(const FormulaInputs& in, Run run) {
  if constexpr (kFormsOf<F> > 1 && !kSplitsAtZero<F>) {
    if (in.form == 0) return run.template operator()<FirstForm<F>>();
  }
  return run.template operator()<F>();
}
template <class F, class Run>
auto with_formula(const FormulaInputs& in, Run run) {
  if constexpr (requires { typename F::Standard; }) {
    if (in.count == F::Standard::kInputs) return with_form<typename F::Standard>(in, run);
  }
  return with_form<F>(in, run);
}

template <class F>
void forward(Stack& stack) {
  const FormulaInputs in = stack.take_inputs<F>();
  const ResultSpec p = stack.take_result_spec(in);
  stack.give(0, with_formula<F>(in, [&]<class G>() { return value<G>(in, p); }));
}

template <class F>
void backward(Stack& stack) {
  const auto grad = stack.take<Tensor>();
  const FormulaInputs in = stack.take_inputs<F>();
  const ResultSpec p = stack.take_result_spec(in);
  const OutputMask mask(stack.take_int());
  const auto incoming = [&](const Frame& frame, int width) {
    return Operand::gradient(grad, p.plan, frame, width);
  };
  const auto run = [&]<class G>() { return differentiate<G, false>(in, p, mask, incoming, {}); };
  stack.give_gradients(0, with_formula<F>(in, run), in, F::kInputs);
}

template <class F>
void with_gradients(Stack& stack) {
  const FormulaInputs in = stack.take_inputs<F>();
  const ResultSpec p = stack.take_result_spec(in);
  const auto expected = stack.take<double>();
  const OutputMask mask(stack.take_int());
  const auto incoming = [&](const Frame&, int) {
    return Operand::constant(expected * p.plan.scale());
  };
  const auto run = [&]<class G>() {
    if (wants_row<G>(in, p.plan, mask)) {  // which takes a pass of its own
      stack.give(0, value<G>(in, p));
      return differentiate<G, false>(in, p, mask, incoming, {});
    }
    const Tensor out = p.plan.allocate(p.dtype, in.lead());
    stack.give(0, out);
    return differentiate<G, true>(in, p, mask, incoming, Totals<1>{{out}, {p.plan.scale()}});
  };
  stack.give_gradients(1, with_formula<F>(in, run), in, F::kInputs);
}

// The lines of formulas.def, numbered.
enum Part {
#define VAE_EXT_LIKELIHOOD(name, Formula, ...) k_##name,
#define VAE_EXT_DIVERGENCE(name, Formula, ...) k_##name,
#include "../ops/formulas.def"
};

// A template, so that the other parts are not compiled.
template <int kPart>
void register_part(torch::stable::detail::StableLibrary& m) {
#define VAE_EXT_OP(name, part, Formula)        \
  if constexpr (kPart == part) {               \
    VAE_EXT_REGISTER_FORMULA(m, name, Formula) \
  }
#define VAE_EXT_DIVERGENCE(name, Formula, ...) VAE_EXT_OP(name, k_##name, Formula)
#define VAE_EXT_LIKELIHOOD(name, Formula, ...) VAE_EXT_OP(name##_log_likelihood, k_##name, Formula)
#include "../ops/formulas.def"
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  vae_ext::register_part<VAE_EXT_PART>(m);
}
