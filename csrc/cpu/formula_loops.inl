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

// The numbers of the elements that are not 0; how many.
template <class T>
int find_nonzero(int n, const T* x, int* index) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    index[count] = i;
    count += x[i] != T(0);
  }
  return count;
}

// The elements at `index`, and copies of the first up to whole vectors: a loop over the rest would
// take as long as all vectors.
constexpr int kVector = 16;
template <class T>
int gather(int count, const int* index, const T* x, T* out) {
  for (int j = 0; j < count; ++j) out[j] = x[index[j]];
  const int whole = (count + kVector - 1) / kVector * kVector;
  for (int j = count; j < whole; ++j) out[j] = x[index[0]];
  return whole;
}

template <class F, class T, int kForm, class I = std::make_integer_sequence<int, F::kInputs>>
struct FormulaLoops;

template <class F, class T, int kForm, int... I>
struct FormulaLoops<F, T, kForm, std::integer_sequence<int, I...>> {
  template <int>
  using In = const T*;
  template <int>
  using Out = T* __restrict;
  using Tiles = T[F::kInputs][kTile];

  template <ExpRange kRange>
  static void value_loop(int n, T* __restrict out, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = value_of<F, kRange>(kForm, x[i]...);
  }

  template <ExpRange kRange, int kBy>
  static void gradient_loop(int n, T* __restrict out, const T* g, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = gradients_of<F, kRange>(kForm, g[i], x[i]...).by[kBy];
  }

  template <ExpRange kRange>
  static void gradients_loop(int n, const T* g, Out<I>... d, In<I>... x) {
    for (int i = 0; i < n; ++i) {
      const auto gradients = gradients_of<F, kRange>(kForm, g[i], x[i]...);
      ((I == F::kTarget ? void() : void(d[i] = gradients.by[I])), ...);
    }
  }

  template <ExpRange kRange>
  static void value_and_gradients_loop(int n, T g, T* __restrict value, Out<I>... d, In<I>... x) {
    for (int i = 0; i < n; ++i) {
      value[i] = value_of<F, kRange>(kForm, x[i]...);
      const auto gradients = gradients_of<F, kRange>(kForm, g, x[i]...);
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

  // ---- Formulas that are split at a target of 0

  static void zero_values(int n, T* __restrict out, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = F::value_at_zero(kForm, x[i]...);
  }
  static void other_values(int n, T* __restrict out, In<I>... x) {
    for (int i = 0; i < n; ++i) out[i] = F::value_above_zero(kForm, x[i]...);
  }
  static void zero_gradients(int n, const T* g, Out<I>... d, In<I>... x) {
    for (int i = 0; i < n; ++i) {
      const auto gradients = F::gradients_at_zero(kForm, g[i], x[i]...);
      ((I == F::kTarget ? void() : void(d[i] = gradients.by[I])), ...);
    }
  }
  static void other_gradients(int n, const T* g, Out<I>... d, In<I>... x) {
    for (int i = 0; i < n; ++i) {
      const auto gradients = F::gradients_above_zero(kForm, g[i], x[i]...);
      ((I == F::kTarget ? void() : void(d[i] = gradients.by[I])), ...);
    }
  }

  // All elements as if they were 0, unless none is; then the others, brought together.
  static void split_value(int n, T* out, const T* const* in) {
    int index[kTile];
    const int others = find_nonzero(n, in[F::kTarget], index);
    if (others == n) return other_values(n, out, in[I]...);
    zero_values(n, out, in[I]...);
    if (others <= 0) return;
    alignas(64) Tiles x;
    alignas(64) T found[kTile];
    int whole = 0;
    ((whole = gather(others, index, in[I], x[I])), ...);
    if (whole < others) __builtin_unreachable();  // which the compiler does not see
    other_values(whole, found, x[I]...);
    for (int j = 0; j < others; ++j) out[index[j]] = found[j];
  }

  // In one loop for all inputs, too.
  static void split_gradients(int n, T* const* out, const T* g, const T* const* in) {
    alignas(64) Tiles unwanted;
    T* d[] = {(out[I] != nullptr ? out[I] : unwanted[I])...};
    int index[kTile];
    const int others = find_nonzero(n, in[F::kTarget], index);
    if (others == n) return other_gradients(n, g, d[I]..., in[I]...);
    zero_gradients(n, g, d[I]..., in[I]...);
    if (others <= 0) return;
    alignas(64) Tiles x, found;
    alignas(64) T incoming[kTile];
    const int whole = gather(others, index, g, incoming);
    (gather(others, index, in[I], x[I]), ...);
    other_gradients(whole, incoming, found[I]..., x[I]...);
    (scatter<I>(others, index, found[I], out[I]), ...);
  }
  template <int kInput>
  static void scatter(int count, const int* index, const T* x, T* out) {
    if (kInput == F::kTarget || out == nullptr) return;
    for (int j = 0; j < count; ++j) out[index[j]] = x[j];
  }

  // ---- The table

  static void value(int n, T* out, const T* const* in) {
    if constexpr (kSplitsAtZero<F>)
      return split_value(n, out, in);
    else
      with_range(n, in, [&]<ExpRange kRange>() { value_loop<kRange>(n, out, in[I]...); });
  }

  static void gradients(int n, T* const* out, const T* g, const T* const* in) {
    if constexpr (kSplitsAtZero<F>)
      return split_gradients(n, out, g, in);
    else
      with_range(n, in, [&]<ExpRange kRange>() { some_gradients<kRange>(n, out, g, in); });
  }

  static void value_and_gradients(int n, T* value, T* const* out, const T* const* in, T g) {
    if constexpr (kSplitsAtZero<F>) {
      alignas(64) T incoming[kTile];
      fill(n, g, incoming);
      split_value(n, value, in);
      split_gradients(n, out, incoming, in);
    } else {
      with_range(n, in, [&]<ExpRange kRange>() {
        value_and_gradients_loop<kRange>(n, g, value, out[I]..., in[I]...);
      });
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
