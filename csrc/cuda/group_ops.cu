// The ops of groups.def, forward, backward and both in one pass. Classes are in classes.cuh; of a
// mixture an element is for a thread, which goes through its parameters twice where there are
// gradients. Words moved per parameter: one, and with gradients two more, since what is read again
// is in a cache only where there are few parameters.
#include "classes.cuh"

namespace vae_ext {
namespace {

// ---- What is done for an element ----------------------------------------------------------------

struct Options {
  int count = 0;       // of parameters
  int channels = 1;    // of the target
  bool bytes = false;  // whether that is of bytes, of a pixel
  Bins<float> bins{2, 0};
  Bins<double> wide_bins{2, 0};

  Options() = default;
  explicit Options(const GroupArguments& a)
      : count(static_cast<int>(a.count)), channels(a.channels) {
    if (!a.has_channels) return;
    bytes = storage_of(a.target.scalar_type()) == Storage::kByte;
    bins = Bins<float>(a.numbers[0], a.numbers[1]);
    wide_bins = Bins<double>(a.numbers[0], a.numbers[1]);
  }

  template <class T>
  VAE_EXT_DEVICE const Bins<T>& bins_of() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return bins;
    } else {
      return wide_bins;
    }
  }
};

// The value, and where kGradient the gradients for the incoming one g.
template <class F>
struct OfElement;

template <>
struct OfElement<DiscretizedLogisticMixture> {
  using F = DiscretizedLogisticMixture;

  template <bool kGradient, class T>
  VAE_EXT_DEVICE static T run(const Options& options, const Entries<T>& parameters,
                              const Entries<T>& targets, T g, const Entries<T>& d) {
    return options.channels == 1 ? of<1, kGradient>(options, parameters, targets, g, d)
                                 : of<3, kGradient>(options, parameters, targets, g, d);
  }

  template <int C, bool kGradient, class T>
  VAE_EXT_DEVICE static T of(const Options& options, const Entries<T>& parameters,
                             const Entries<T>& targets, T g, const Entries<T>& d) {
    using Component = F::Component<T, C>;
    constexpr int P = Component::kParameters, kKinds = Component::kKinds;
    const int mixtures = F::mixtures(C, options.count);
    const Bins<T>& bins = options.bins_of<T>();
    T x[C];
#pragma unroll
    for (int c = 0; c < C; ++c) {
      x[c] = targets[c];
      if (options.bytes) x[c] = F::middle_of(x[c], bins);
      if (F::refused(x[c])) x[c] = T(NAN);
    }
    const auto read = [&](int m, T(&p)[P]) {
#pragma unroll
      for (int i = 0; i < P; ++i) {
        p[i] = parameters[F::slot(C, mixtures, m, i / kKinds, i % kKinds)];
      }
    };
    LogSum<T> joint{}, weights{};
#pragma unroll 1
    for (int m = 0; m < mixtures; ++m) {
      T p[P];
      read(m, p);
      const T logit = parameters[m], term = logit + Component::log_probability(p, x, bins);
      joint = m == 0 ? LogSum<T>::of(term) : joint.with(term);
      weights = m == 0 ? LogSum<T>::of(logit) : weights.with(logit);
    }
    if constexpr (kGradient) {
      const T factor = joint.factor(), weights_factor = weights.factor();
#pragma unroll 1
      for (int m = 0; m < mixtures; ++m) {
        T p[P], found[P];
        read(m, p);
        const T logit = parameters[m];
        const T term = logit + Component::gradients(p, x, bins, found);
        const T share = joint.share(term, factor);
        d.set(m, g * (share - weights.share(logit, weights_factor)));
#pragma unroll
        for (int i = 0; i < P; ++i) {
          d.set(F::slot(C, mixtures, m, i / kKinds, i % kKinds), (g * share) * found[i]);
        }
      }
    }
    return joint.log() - weights.log();
  }
};

// ---- Kernels ------------------------------------------------------------------------------------

// See map.cuh.
template <class F, int kSums_, bool kGradient>
struct GroupBody {
  static constexpr int kSums = kSums_;
  static constexpr int kHeavy = 2, kHeavyWide = 2;
  using OneByOne = void;

  Series parameters, targets, gradient;
  Operand incoming, weights, out;
  Options options;
  bool weighted = false, wanted = false;  // the value, where it is stored

  void set(int, const Operand& to) {
    out = to;
    wanted = true;
  }

  template <class Function>
  void each_operand(Function) const {}  // none is read in groups

  bool fits(int) const { return false; }

  template <class V, ExpRange kRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums& sums) const {
    using T = typename V::T;
    if constexpr (V::kWidth == 1) {
      if (kRange == ExpRange::kBounded) return false;  // each is served by the same formula
      T value[1], g[1] = {T(0)}, weight[1] = {T(1)};
      if constexpr (kGradient) values<V>(incoming, fetch<V>(incoming, start), start, g);
      if (weighted) values<V>(weights, fetch<V>(weights, start), start, weight);
      const auto d = Entries<T>::template of<V>(gradient, start);
      if (weight[0] != T(0)) {
        value[0] = weight[0] * OfElement<F>::template run<kGradient, T>(
                                   options, Entries<T>::template of<V>(parameters, start),
                                   Entries<T>::template of<V>(targets, start), g[0] * weight[0], d);
      } else {
        value[0] = T(0);
        if constexpr (kGradient) {
#pragma unroll 1
          for (int k = 0; k < options.count; ++k) d.set(k, T(0));
        }
      }
      if (wanted) store<V>(out, start, value);
      if constexpr (kSums > 0) sums.add(0, value);
    }
    return true;
  }
};

// `gradient`: where the gradients go, for the incoming one.
template <class F, bool kGradient>
auto inputs_of(const GroupArguments& a, const Tensor* gradient, const Operand& incoming) {
  return [&a, gradient, incoming](auto& body, int) {
    const Shape& elements = a.elements();
    body.parameters = Series(a.parameters, elements, true);
    body.targets = Series(a.target, elements, a.has_channels);
    if constexpr (kGradient) {
      body.gradient = Series(*gradient, elements, true);
      body.incoming = incoming;
    }
    body.options = Options(a);
    body.weighted = a.weights.has_value();
    if (body.weighted) body.weights = Operand(*a.weights, elements, 1);
  };
}

template <class F, bool kGradient>
struct BodyOf {
  template <int kSums>
  using Sums = GroupBody<F, kSums, kGradient>;
};

template <class F, bool kGradient>
Tensor values_of(const GroupArguments& a, const Tensor* gradient, const Operand& incoming) {
  if constexpr (F::kClasses) {
    return classes_of(a, gradient, incoming);
  } else {
    return reduced<BodyOf<F, kGradient>::template Sums>(
        Launcher(a.parameters), a.result.plan, a.result.dtype, a.parameters,
        inputs_of<F, kGradient>(a, gradient, incoming));
  }
}

template <class F>
void gradients_of(const GroupArguments& a, const Tensor& gradient, const Operand& incoming) {
  const Launcher launcher(a.parameters);
  if constexpr (F::kClasses) {
    launch_classes(launcher, a, Classes(a, &gradient, incoming, nullptr), true);
  } else {
    const auto fill = inputs_of<F, true>(a, &gradient, incoming);
    launch_elementwise(launcher, a.result.plan.numel, a.parameters.scalar_type(), a.is_double(),
                       [&](int width) {
                         GroupBody<F, 0, true> body;
                         fill(body, width);
                         return body;
                       });
  }
}

template <class F>
void forward(Stack& stack) {
  const GroupArguments a = take_group<F>(stack);
  stack.give(0, values_of<F, false>(a, nullptr, {}));
}

template <class F>
void backward(Stack& stack) {
  const auto grad = stack.take<Tensor>();
  const GroupArguments a = take_group<F>(stack);
  const OutputMask mask(stack.take_int());
  const Tensor found = a.allocate_gradient(mask);
  if (mask[0]) {
    gradients_of<F>(a, found, Operand::gradient(grad, a.result.plan, a.elements(), 1));
  }
  a.give_gradients(stack, 0, found);
}

template <class F>
void with_gradients(Stack& stack) {
  const GroupArguments a = take_group<F>(stack);
  const auto expected = stack.take<double>();
  const OutputMask mask(stack.take_int());
  const Tensor found = a.allocate_gradient(mask);
  const Operand incoming = Operand::constant(expected * a.result.plan.scale());
  stack.give(
      0, mask[0] ? values_of<F, true>(a, &found, incoming) : values_of<F, false>(a, nullptr, {}));
  a.give_gradients(stack, 1, found);
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
#define VAE_EXT_GROUP(name, Formula, ...) \
  VAE_EXT_REGISTER_FORMULA(m, name##_log_likelihood, Formula)
#include "../ops/groups.def"
}
