// The loops over the likelihoods of math/groups.h: several tiles, one for each parameter of an
// element. Part of kernels.inl, inside its namespace.

template <class F, class T>
struct GroupLoops;

// Tiles of a tensor lie far apart, where the processor does not foresee the next.
template <int kWrite, class T>
inline void prefetch_tile(const T* tile, int n) {
  constexpr int kLine = 64 / sizeof(T);
  for (int i = 0; i < n; i += kLine) __builtin_prefetch(tile + i, kWrite, 3);
}

// ---- Classes -----------------------------------------------------------------------------------

template <class T>
struct GroupLoops<Categorical, T> {
  static constexpr int kTogether = 4;  // terms that are added while a sum is in registers
  static constexpr int kAhead = 12;    // tiles that are on their way

  template <int kTerms>
  static void add_terms(int n, const T* const* x, T* __restrict most, T* __restrict others) {
    const T *a = x[0], *b = x[kTerms > 1 ? 1 : 0], *c = x[kTerms > 2 ? 2 : 0],
            *d = x[kTerms > 3 ? 3 : 0];
    for (int i = 0; i < n; ++i) {
      LogSum<T> sum{most[i], others[i]};
      sum = sum.with(a[i]);
      if constexpr (kTerms > 1) sum = sum.with(b[i]);
      if constexpr (kTerms > 2) sum = sum.with(c[i]);
      if constexpr (kTerms > 3) sum = sum.with(d[i]);
      most[i] = sum.most;
      others[i] = sum.others;
    }
  }

  static void sums(int n, const GroupTiles<T>& in, T* most, T* others) {
    for (int i = 0; i < n; ++i) most[i] = in.parameters[0][i];
    for (int i = 0; i < n; ++i) others[i] = T(0);
    int k = 1;
    for (; k + kTogether <= in.count; k += kTogether) {
      for (int j = k + kAhead; j < k + kAhead + kTogether && j < in.count; ++j) {
        prefetch_tile<0>(in.parameters[j], n);
      }
      add_terms<kTogether>(n, in.parameters + k, most, others);
    }
    for (; k < in.count; ++k) add_terms<1>(n, in.parameters + k, most, others);
  }

  static void shares(int n, T* __restrict d, const T* logits, const T* most, const T* factors) {
    for (int i = 0; i < n; ++i) d[i] = exp_beside_one(logits[i] - most[i]) * factors[i];
  }

  static void run(int n, const GroupTiles<T>& in, T* value, T* const* d, const T* g) {
    alignas(64) T most[kGroupTile], others[kGroupTile], factors[kGroupTile];
    sums(n, in, most, others);
    const T* target = in.targets[0];
    const auto logit = [&](int i) {
      const T t = target[i];  // where it is refused, or NaN, there is no such logit
      const bool known = Categorical::is_class(t, static_cast<T>(in.count));
      return known ? in.parameters[static_cast<int>(t)][i] : T(NAN);
    };
    for (int i = 0; i < n; ++i) value[i] = logit(i);
    if (d != nullptr) {
      for (int i = 0; i < n; ++i) factors[i] = -(g[i] * LogSum<T>{most[i], others[i]}.factor());
      for (int k = 0; k < in.count; ++k) {
        if (k + kAhead < in.count) prefetch_tile<1>(d[k + kAhead], n);
        shares(n, d[k], in.parameters[k], most, factors);
      }
      for (int i = 0; i < n; ++i) {
        if (value[i] != value[i]) continue;  // no target
        const LogSum<T> sum{most[i], others[i]};
        d[static_cast<int>(target[i])][i] = g[i] * sum.rest(value[i], sum.factor());
      }
    }
    for (int i = 0; i < n; ++i) value[i] = LogSum<T>{most[i], others[i]}.log_share(value[i]);
  }

  // The same of one element whose logits lie side by side, in lanes of which each has its sum.
  // First the largest, then the exponentials of the others beside it, which are kept where the
  // gradients will be and wait there for the sum: one for each logit. What the largest is itself
  // stays out of the sum, so that log(1 + others) loses nothing where it is all that there is.
  static constexpr int kLanes = 16;

  // 1 where a logit is the largest, whose exponential is exactly that, else 0. Of floats by their
  // bits, a question that GCC cannot take for the one in `beside`, by which it would divide the
  // loop. A -0 beside 0 is another, as large.
  VAE_EXT_INLINE static float is_largest(float x, float most) {
    return bits_of(x) == bits_of(most) ? 1.f : 0.f;
  }
  VAE_EXT_INLINE static double is_largest(double x, double most) { return x == most ? 1. : 0.; }

  // exp(x - most), 1 also where both are infinite.
  VAE_EXT_INLINE static T beside(T x, T most) {
    return exp_beside_one(x == most ? T(0) : x - most);
  }

  static T most_of_row(int n, const T* logits) {
    T most = logits[0];
    int k = 0;
    if (n >= 2 * kLanes) {
      alignas(64) T lanes[kLanes];
      for (int j = 0; j < kLanes; ++j) lanes[j] = logits[j];
      for (k = kLanes; k + kLanes <= n; k += kLanes) {
        const T* x = logits + k;
        for (int j = 0; j < kLanes; ++j) lanes[j] = x[j] > lanes[j] ? x[j] : lanes[j];
      }
      for (int j = 0; j < kLanes; ++j) most = lanes[j] > most ? lanes[j] : most;
    }
    for (; k < n; ++k) most = logits[k] > most ? logits[k] : most;
    return most;
  }

  template <bool kKeep>
  static LogSum<T> row_sum(int n, const T* logits, T* __restrict kept) {
    const T most = most_of_row(n, logits);
    alignas(64) T others[kLanes] = {}, largest[kLanes] = {};
    int k = 0;
    for (; k + kLanes <= n; k += kLanes) {
      const T* x = logits + k;
      T* to = kKeep ? kept + k : nullptr;
      for (int j = 0; j < kLanes; ++j) {
        const T logit = x[j], e = beside(logit, most), one = is_largest(logit, most);
        others[j] += e - one;
        largest[j] += one;
        if constexpr (kKeep) to[j] = e;
      }
    }
    for (int j = 0; k < n; ++k, ++j) {
      const T e = beside(logits[k], most);
      const T one = is_largest(logits[k], most);
      others[j] += e - one;
      largest[j] += one;
      if constexpr (kKeep) kept[k] = e;
    }
    T total = T(0), count = T(-1);  // one of the largest is no other
    for (int j = 0; j < kLanes; ++j) total += others[j];
    for (int j = 0; j < kLanes; ++j) count += largest[j];
    return {most, total + count};
  }

  static void run_row(int n, const T* logits, T target, T* value, T* __restrict d, T g) {
    const LogSum<T> sum = d != nullptr ? row_sum<true>(n, logits, d) : row_sum<false>(n, logits, d);
    const bool known = Categorical::is_class(target, static_cast<T>(n));
    const int t = known ? static_cast<int>(target) : 0;
    const T logit = known ? logits[t] : T(NAN), factor = sum.factor();
    if (d != nullptr) {
      const T negative = -(g * factor);
      for (int k = 0; k < n; ++k) d[k] *= negative;
      if (known) d[t] = g * sum.rest(logit, factor);
    }
    *value = sum.log_share(logit);
  }

  static bool any_refused(int n, const GroupTiles<T>& in) {
    bool found = false;
    const T* target = in.targets[0];
    for (int i = 0; i < n; ++i) {
      found = found || Categorical::refused(target[i], static_cast<T>(in.count));
    }
    return found;
  }

  static constexpr GroupKernels<T> kernels() { return {run, run_row, any_refused}; }
};

// ---- Mixtures ----------------------------------------------------------------------------------

template <class T>
struct GroupLoops<DiscretizedLogisticMixture, T> {
  using F = DiscretizedLogisticMixture;

  template <int C>
  struct Of {
    using Component = F::Component<T, C>;
    static constexpr int P = Component::kParameters;

    // The tiles of a mixture's parameters, as Component has them.
    template <class Tile>
    static void tiles_of(Tile* const* all, int mixtures, int mixture, Tile* (&tiles)[P]) {
      for (int c = 0; c < C; ++c) {
        for (int k = 0; k < Component::kKinds; ++k) {
          tiles[c * Component::kKinds + k] = all[F::slot(C, mixtures, mixture, c, k)];
        }
      }
    }

    template <int... I>
    static void values(std::integer_sequence<int, I...>, int n, const Bins<T>& bins,
                       const T* const (&tiles)[P], const T* const* targets, const T* logits,
                       T* __restrict out) {
      value_loop(n, bins, targets[0], targets[C - 1 > 0], targets[C - 1], logits, out, tiles[I]...);
    }
    template <class... Tiles>
    static void value_loop(int n, const Bins<T>& bins, const T* x0, const T* x1, const T* x2,
                           const T* logits, T* __restrict out, Tiles... tiles) {
      for (int i = 0; i < n; ++i) {
        const T p[P] = {tiles[i]...};
        out[i] = logits[i] + Component::log_probability(p, pixel(x0[i], x1[i], x2[i]).x, bins);
      }
    }

    struct Pixel {
      T x[C];
    };
    VAE_EXT_INLINE static Pixel pixel(T x0, T x1, T x2) {
      if constexpr (C == 3) {
        return {{x0, x1, x2}};
      } else {
        return {{x0}};
      }
    }

    template <int... I>
    static void derivatives(std::integer_sequence<int, I...>, int n, const Bins<T>& bins,
                            const T* const (&tiles)[P], const T* const* targets, const T* logits,
                            T* __restrict out, T* const (&d)[P]) {
      gradient_loop<I...>(n, bins, targets[0], targets[C - 1 > 0], targets[C - 1], logits, out,
                          tiles[I]..., d[I]...);
    }
    template <int>
    using In = const T*;
    template <int>
    using Out = T* __restrict;
    template <int... I>
    static void gradient_loop(int n, const Bins<T>& bins, const T* x0, const T* x1, const T* x2,
                              const T* logits, T* __restrict out, In<I>... tiles, Out<I>... d) {
      for (int i = 0; i < n; ++i) {
        const T p[P] = {tiles[i]...};
        T found[P];
        out[i] = logits[i] + Component::gradients(p, pixel(x0[i], x1[i], x2[i]).x, bins, found);
        ((d[i] = found[I]), ...);
      }
    }

    static void scale(int n, T* __restrict x, const T* by) {
      for (int i = 0; i < n; ++i) x[i] *= by[i];
    }

    static void add_term(int n, const T* term, T* __restrict most, T* __restrict others) {
      for (int i = 0; i < n; ++i) {
        const LogSum<T> sum = LogSum<T>{most[i], others[i]}.with(term[i]);
        most[i] = sum.most;
        others[i] = sum.others;
      }
    }

    // How the sum over the mixtures, and that of their weights, depend on one of them.
    static void share_loop(int n, const T* g, const T* joint, const T* logits, const T* most,
                           const T* factor, const T* weights_most, const T* weights_factor,
                           T* __restrict share, T* __restrict by_logit) {
      for (int i = 0; i < n; ++i) {
        const T of_joint = exp_beside_one(joint[i] - most[i]) * factor[i];
        const T of_weight = exp_beside_one(logits[i] - weights_most[i]) * weights_factor[i];
        share[i] = g[i] * of_joint;
        by_logit[i] = g[i] * (of_joint - of_weight);
      }
    }

    static void run(int n, const GroupTiles<T>& in, T* value, T* const* d, const T* g) {
      using Parameters = std::make_integer_sequence<int, P>;
      const Bins<T> bins(in.numbers[0], in.numbers[1]);
      const int mixtures = F::mixtures(C, in.count);
      alignas(64) T most[kGroupTile], others[kGroupTile];
      alignas(64) T weights_most[kGroupTile], weights_others[kGroupTile];
      const T* tiles[P];
      T* gradients[P];
      for (int m = 0; m < mixtures; ++m) {
        T* joint = in.scratch + m * kGroupTile;
        tiles_of(in.parameters, mixtures, m, tiles);
        if (d == nullptr) {
          values(Parameters(), n, bins, tiles, in.targets, in.parameters[m], joint);
        } else {  // each component's own, until it is known how much of the sum it is
          tiles_of(d, mixtures, m, gradients);
          derivatives(Parameters(), n, bins, tiles, in.targets, in.parameters[m], joint, gradients);
        }
        if (m == 0) {
          for (int i = 0; i < n; ++i) most[i] = joint[i];
          for (int i = 0; i < n; ++i) weights_most[i] = in.parameters[0][i];
          for (int i = 0; i < n; ++i) others[i] = weights_others[i] = T(0);
        } else {
          add_term(n, joint, most, others);
          add_term(n, in.parameters[m], weights_most, weights_others);
        }
      }
      for (int i = 0; i < n; ++i) {
        value[i] = LogSum<T>{most[i], others[i]}.log() -
                   LogSum<T>{weights_most[i], weights_others[i]}.log();
      }
      if (d == nullptr) return;
      alignas(64) T share[kGroupTile];
      for (int i = 0; i < n; ++i) others[i] = T(1) / (T(1) + others[i]);
      for (int i = 0; i < n; ++i) weights_others[i] = T(1) / (T(1) + weights_others[i]);
      for (int m = 0; m < mixtures; ++m) {
        share_loop(n, g, in.scratch + m * kGroupTile, in.parameters[m], most, others, weights_most,
                   weights_others, share, d[m]);
        tiles_of(d, mixtures, m, gradients);
        for (T* gradient : gradients) scale(n, gradient, share);
      }
    }
  };

  static void run(int n, const GroupTiles<T>& in, T* value, T* const* d, const T* g) {
    in.targets_count == 1 ? Of<1>::run(n, in, value, d, g) : Of<3>::run(n, in, value, d, g);
  }

  static bool any_refused(int n, const GroupTiles<T>& in) {
    bool found = false;
    for (int c = 0; c < in.targets_count; ++c) {
      for (int i = 0; i < n; ++i) found = found || F::refused(in.targets[c][i]);
    }
    return found;
  }

  static constexpr GroupKernels<T> kernels() { return {run, nullptr, any_refused}; }
};
