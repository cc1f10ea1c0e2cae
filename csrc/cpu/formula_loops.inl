// The loops over a formula of math/: value, gradients, and both. Part of kernels.inl, inside its
// namespace. Each loop is a function with plain pointers as parameters: captured by a lambda they
// would lose their __restrict, and the loop its vectors.

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

template <class F, class T, class I = std::make_integer_sequence<int, F::kInputs>>
struct FormulaLoops;

template <class F, class T, int... I>
struct FormulaLoops<F, T, std::integer_sequence<int, I...>> {
  template <int>
  using In = const T*;
  template <int>
  using Out = T* __restrict;

  template <ExpRange kRange>
  static void value_loop(int n, T* __restrict out, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = F::template value<kRange>(x[i]...);
  }

  template <ExpRange kRange, int kBy>
  static void gradient_loop(int n, T* __restrict out, const T* g, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = F::template gradients<kRange>(g[i], x[i]...).by[kBy];
  }

  template <ExpRange kRange>
  static void value_and_gradients_loop(int n, T g, T* __restrict value, Out<I>... d, In<I>... x) {
    for (int i = 0; i < n; ++i) {
      value[i] = F::template value<kRange>(x[i]...);
      const auto gradients = F::template gradients<kRange>(g, x[i]...);
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

  static void value(int n, T* out, const T* const* in) {
    with_range(n, in, [&]<ExpRange kRange>() { value_loop<kRange>(n, out, in[I]...); });
  }

  template <ExpRange kRange, int kBy>
  static void gradient(int n, T* out, const T* g, const T* const* in) {
    if (out != nullptr) gradient_loop<kRange, kBy>(n, out, g, in[I]...);
  }
  static void gradients(int n, T* const* out, const T* g, const T* const* in) {
    with_range(n, in, [&]<ExpRange kRange>() { (gradient<kRange, I>(n, out[I], g, in), ...); });
  }

  static void value_and_gradients(int n, T* value, T* const* out, const T* const* in, T g) {
    with_range(n, in, [&]<ExpRange kRange>() {
      value_and_gradients_loop<kRange>(n, g, value, out[I]..., in[I]...);
    });
  }

  static constexpr FormulaKernels<T> table() {
    if constexpr (kHasLargestTarget<F>) {
      return {value, gradients, value_and_gradients, any_refused<F, T>, F::kTargets};
    } else {
      return {value, gradients, value_and_gradients, nullptr, nullptr};
    }
  }
};
