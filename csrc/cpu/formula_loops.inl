// The loops over a formula of math/: value, gradients, and both. Part of kernels.inl, inside its
// namespace. Each loop is a function with plain pointers as parameters: captured by a lambda they
// would lose their __restrict, and the loop its vectors.

#include "split_at_zero.inl"

// The bits of a target that is taken are at most those of the largest, and those of a negative
// number or of NaN are more. A second look lets -0 and NaN pass.
template <class F, class T>
bool any_refused_exact(int n, const T* targets) {
  bool found = false;
  for (int i = 0; i < n; ++i) found = found || refused_target<F>(targets[i]);
  return found;
}
template <class F, class T>
bool any_refused(int n, const T* targets) {
  if constexpr (sizeof(T) == sizeof(float)) {
    uint32_t most = 0;
    for (int i = 0; i < n; ++i) {
      const uint32_t bits = bits_of(targets[i]);
      most = bits > most ? bits : most;
    }
    if (most <= bits_of(F::kLargestTarget)) return false;
  }
  return any_refused_exact<F>(n, targets);
}

template <class F, class T, int kForm, class I = std::make_integer_sequence<int, F::kInputs>>
struct FormulaLoops;

template <class F, class T, int kForm, int... I>
struct FormulaLoops<F, T, kForm, std::integer_sequence<int, I...>> {
  static constexpr int N = F::kInputs;
  template <int>
  using In = const T*;
  template <int>
  using Out = T* __restrict;
  using Tiles = T[N][kTile];

  template <ExpRange kRange, Targets kTargets = Targets::kAny>
  static void value_loop(int n, T* __restrict out, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = value_of<F, kRange, kTargets>(kForm, x[i]...);
  }

  template <ExpRange kRange, int kBy>
  static void gradient_loop(int n, T* __restrict out, const T* g, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = gradients_of<F, kRange>(kForm, g[i], x[i]...).by[kBy];
  }

  template <ExpRange kRange, Targets kTargets = Targets::kAny>
  static void gradients_loop(int n, const T* g, Out<I>... d, In<I>... x) {
    for (int i = 0; i < n; ++i) {
      const auto gradients = gradients_of<F, kRange, kTargets>(kForm, g[i], x[i]...);
      ((I == F::kTarget ? void() : void(d[i] = gradients.by[I])), ...);
    }
  }

  template <ExpRange kRange, Targets kTargets = Targets::kAny>
  static void both_loop(int n, T g, T* __restrict value, Out<I>... d, In<I>... x) {
    for (int i = 0; i < n; ++i) {
      value[i] = value_of<F, kRange, kTargets>(kForm, x[i]...);
      const auto gradients = gradients_of<F, kRange, kTargets>(kForm, g, x[i]...);
      ((I == F::kTarget ? void() : void(d[i] = gradients.by[I])), ...);
    }
  }

  // run<kRange>() with what is known of the exponents of a tile.
  template <class Run>
  static void with_range(int n, const T* const* in, Run run) {
    bool bounded = true;
    for (int i : F::kExponents) bounded = bounded && is_bounded(n, in[i]);
    bounded ? run.template operator()<ExpRange::kBounded>()
            : run.template operator()<ExpRange::kFull>();
  }

  template <ExpRange kRange, int kBy>
  static void gradient(int n, T* out, const T* g, const T* const* in) {
    if (out != nullptr) gradient_loop<kRange, kBy>(n, out, g, in[I]...);
  }

  // Several in one loop, since what they have in common is most of it; the target's by itself,
  // which few ask for.
  template <ExpRange kRange>
  static void some_gradients(int n, T* const* out, const T* g, const T* const* in) {
    const int wanted = ((I != F::kTarget && out[I] != nullptr) + ...);
    if (wanted < 2) return (gradient<kRange, I>(n, out[I], g, in), ...);
    alignas(64) Tiles unwanted;
    gradients_loop<kRange>(n, g, (out[I] != nullptr ? out[I] : unwanted[I])..., in[I]...);
    if constexpr (F::kTarget >= 0) gradient<kRange, F::kTarget>(n, out[F::kTarget], g, in);
  }

  // ---- The table

  static void value(int n, T* out, const T* const* in) {
    if constexpr (kSplitsAtZero<F>) {
      split_at_zero<F>(n, Pointers<const T, N>{in[I]...}, Pointers<T, 1>{out},
                       [&]<Targets kTargets>(int count, const auto& x, const auto& y) {
                         value_loop<ExpRange::kFull, kTargets>(count, y.at[0], x.at[I]...);
                       });
    } else {
      with_range(n, in, [&]<ExpRange kRange>() { value_loop<kRange>(n, out, in[I]...); });
    }
  }

  static void gradients(int n, T* const* out, const T* g, const T* const* in) {
    if constexpr (kSplitsAtZero<F>) {  // in one loop for all inputs, too
      alignas(64) Tiles unwanted;
      const auto to = [&](int i) {
        return i == F::kTarget || out[i] != nullptr ? out[i] : unwanted[i];
      };
      split_at_zero<F>(n, Pointers<const T, N + 1>{in[I]..., g}, Pointers<T, N>{to(I)...},
                       [&]<Targets kTargets>(int count, const auto& x, const auto& d) {
                         gradients_loop<ExpRange::kFull, kTargets>(count, x.at[N], d.at[I]...,
                                                                   x.at[I]...);
                       });
    } else {
      with_range(n, in, [&]<ExpRange kRange>() { some_gradients<kRange>(n, out, g, in); });
    }
  }

  static void value_and_gradients(int n, T* value, T* const* out, const T* const* in, T g) {
    if constexpr (kSplitsAtZero<F>) {
      split_at_zero<F>(n, Pointers<const T, N>{in[I]...}, Pointers<T, N + 1>{value, out[I]...},
                       [&]<Targets kTargets>(int count, const auto& x, const auto& y) {
                         both_loop<ExpRange::kFull, kTargets>(count, g, y.at[0], y.at[1 + I]...,
                                                              x.at[I]...);
                       });
    } else {
      with_range(n, in,
                 [&]<ExpRange kRange>() { both_loop<kRange>(n, g, value, out[I]..., in[I]...); });
    }
  }

  static constexpr FormulaKernels<T> kernels() {
    if constexpr (kHasLargestTarget<F>) {
      return {value, gradients, value_and_gradients, any_refused<F, T>, F::kTargets};
    } else {
      return {value, gradients, value_and_gradients, nullptr, nullptr};
    }
  }
};

template <class F, class T>
constexpr void fill_table(FormulaTable<T>& table) {
  static_assert(kFormsOf<F> <= kMaxForms);
  const auto fill = [&]<int... kForm>(std::integer_sequence<int, kForm...>) {
    ((table[kForm] = FormulaLoops<F, T, kForm>::kernels()), ...);
  };
  fill(std::make_integer_sequence<int, kFormsOf<F>>());
}
