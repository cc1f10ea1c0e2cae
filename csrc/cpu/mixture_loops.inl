// The loops over a mixture of diagonal Gaussians: a block of rows against a panel of components,
// whose squared distances stay in registers while the dimensions go by. Part of kernels.inl, inside
// its namespace. Sums over many dimensions, rows or components end in double: what a component
// weighs depends on the difference of two that may be thousands.

#if defined(VAE_EXT_AVX512)
constexpr int kVectorBytes = 64;
#elif defined(VAE_EXT_AVX2)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
using Doubles = double __attribute__((vector_size(kVectorBytes)));
template <class T>
struct VectorOf {
  using Type = float __attribute__((vector_size(kVectorBytes)));
  using Few = float __attribute__((vector_size(kVectorBytes / 2)));  // as many as Doubles
};
template <>
struct VectorOf<double> {
  using Type = Doubles;
  using Few = Doubles;
};

template <class T>
struct MixtureLoops {
  static constexpr int kRows = kMixtureRows, kPanel = kMixturePanel;
  using Vector = typename VectorOf<T>::Type;
  using Few = typename VectorOf<T>::Few;
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  static constexpr int kDoubles = kVectorBytes / static_cast<int>(sizeof(double));
  static constexpr int kVectors = kPanel / kLanes;                 // of a panel
  static constexpr int kAtOnce = kVectors > 8 ? 1 : 8 / kVectors;  // rows, in eight registers
  static constexpr int kBlock = 32;  // dimensions that are added up as T

  VAE_EXT_INLINE static Vector load(const T* source) {
    Vector x;
    __builtin_memcpy(&x, source, sizeof x);
    return x;
  }
  // The same of doubles, from either.
  template <class S>
  VAE_EXT_INLINE static Doubles load_wide(const S* source) {
    std::conditional_t<sizeof(S) == sizeof(double), Doubles, Few> x;
    __builtin_memcpy(&x, source, sizeof x);
    return __builtin_convertvector(x, Doubles);
  }
  VAE_EXT_INLINE static void store(double* out, Doubles x) { __builtin_memcpy(out, &x, sizeof x); }
  VAE_EXT_INLINE static void add_to(double* sums, Vector x) {
    T lane[kLanes];
    __builtin_memcpy(lane, &x, sizeof x);
    VAE_EXT_UNROLL
    for (int i = 0; i < kLanes; i += kDoubles) {
      store(sums + i, load_wide(sums + i) + load_wide(lane + i));
    }
  }
  VAE_EXT_INLINE static double sum_of(Vector x) {
    T lane[kLanes];
    __builtin_memcpy(lane, &x, sizeof x);
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return static_cast<double>(lane[0]);
  }

  static void inverse_scales(int n, const T* logvar, T* out) {
    for (int i = 0; i < n; ++i) out[i] = inverse_scale(logvar[i]);
  }

  // c - sums / 2, for some rows.
  template <class S>
  VAE_EXT_INLINE static void finish(const S* sums, const double* c, double* out) {
    VAE_EXT_UNROLL
    for (int i = 0; i < kAtOnce * kPanel; i += kDoubles) {
      store(out + i, load_wide(c + i % kPanel) - 0.5 * load_wide(sums + i));
    }
  }

  // out[row][component] = c[component] - half the squared distance.
  static void terms(int64_t dims, const T* z, const T* mean, const T* inverse, const double* c,
                    double* out) {
    constexpr int kPairs = kAtOnce * kPanel;
    for (int row = 0; row < kRows; row += kAtOnce) {
      double total[kPairs] = {};
      T sums[kPairs] = {};
      for (int64_t begin = 0; begin < dims; begin += kBlock) {
        const int64_t end = begin + kBlock < dims ? begin + kBlock : dims;
        distances(begin, end, z + row, mean, inverse, sums);
        if (dims <= kBlock) break;
        for (int i = 0; i < kPairs; i += kDoubles) {
          store(total + i, load_wide(total + i) + load_wide(sums + i));
        }
      }
      dims <= kBlock ? finish(sums, c, out + row * kPanel) : finish(total, c, out + row * kPanel);
    }
  }

  // The squared distances of some rows, over some dimensions.
  VAE_EXT_INLINE static void distances(int64_t begin, int64_t end, const T* z, const T* mean,
                                       const T* inverse, T* out) {
    Vector sums[kAtOnce][kVectors] = {};
    for (int64_t d = begin; d < end; ++d) {
      Vector m[kVectors], s[kVectors];
      VAE_EXT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        m[v] = load(mean + d * kPanel + v * kLanes);
        s[v] = load(inverse + d * kPanel + v * kLanes);
      }
      VAE_EXT_UNROLL
      for (int r = 0; r < kAtOnce; ++r) {
        const T x = z[d * kRows + r];
        VAE_EXT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const Vector t = (x - m[v]) * s[v];
          sums[r][v] += t * t;
        }
      }
    }
    VAE_EXT_UNROLL
    for (int r = 0; r < kAtOnce; ++r) {
      VAE_EXT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        __builtin_memcpy(out + r * kPanel + v * kLanes, &sums[r][v], sizeof sums[r][v]);
      }
    }
  }

  // Log-sums of the lanes, sums[row][i] exp(most[row][i]), with the terms of some panels more.
  static void add(int panels, const double* terms, double* most, T* sums) {
    constexpr int kPairs = kRows * kPanel;
    double larger[kPairs];
    for (int i = 0; i < kPairs; ++i) larger[i] = most[i];
    for (int p = 0; p < panels; ++p) {
      const double* term = terms + p * kPairs;
      for (int i = 0; i < kPairs; ++i) larger[i] = term[i] > larger[i] ? term[i] : larger[i];
    }
    for (int i = 0; i < kPairs; ++i) {
      sums[i] *= exp_beside_one(static_cast<T>(most[i] - larger[i]));
      most[i] = larger[i];
    }
    for (int p = 0; p < panels; ++p) {
      const double* term = terms + p * kPairs;
      for (int i = 0; i < kPairs; ++i) {
        sums[i] += exp_beside_one(static_cast<T>(term[i] - larger[i]));
      }
    }
  }

  // q[row][component] = g[row] exp(term - log_sum[row]), the part of each that a component has.
  static void shares(const double* terms, const double* log_sum, const T* g, T* q) {
    for (int row = 0; row < kRows; ++row) {
      const double whole = log_sum[row];
      const T by = g[row];
      const double* const term = terms + row * kPanel;
      for (int i = 0; i < kPanel; ++i) {
        q[row * kPanel + i] = by * share_of<T>(term[i], whole);
      }
    }
  }

  // out[dimension][row] += what so many panels say, whose means lie `step` apart.
  static void z_gradient(int64_t dims, int panels, int64_t step, const T* z, const T* mean,
                         const T* inverse, const T* q, double* out) {
    constexpr int kSums = 8;
    for (int64_t d = 0; d < dims; ++d) {
      for (int row = 0; row < kRows; row += kSums) {
        Vector sums[kSums] = {};
        for (int p = 0; p < panels; ++p) {
          const int64_t at = p * step + d * kPanel;
          const T* const of_rows = q + (p * kRows + row) * kPanel;
          VAE_EXT_UNROLL
          for (int v = 0; v < kVectors; ++v) {
            const Vector m = load(mean + at + v * kLanes), s = load(inverse + at + v * kLanes);
            VAE_EXT_UNROLL
            for (int r = 0; r < kSums; ++r) {
              const Vector t = (m - z[d * kRows + row + r]) * s;
              sums[r] += (load(of_rows + r * kPanel + v * kLanes) * s) * t;
            }
          }
        }
        VAE_EXT_UNROLL
        for (int r = 0; r < kSums; ++r) out[d * kRows + row + r] += sum_of(sums[r]);
      }
    }
  }

  // What a block of rows adds to the gradients by a panel's means, log-variances and weights.
  static void parameter_gradients(int64_t dims, const T* z, const T* mean, const T* inverse,
                                  const T* q, double* by_mean, double* by_logvar,
                                  double* by_weight) {
    for (int64_t d = 0; d < dims; ++d) {
      Vector m[kVectors], s[kVectors], first[kVectors] = {}, second[kVectors] = {};
      VAE_EXT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        m[v] = load(mean + d * kPanel + v * kLanes);
        s[v] = load(inverse + d * kPanel + v * kLanes);
      }
      for (int row = 0; row < kRows; ++row) {
        const T x = z[d * kRows + row];
        VAE_EXT_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const Vector share = load(q + row * kPanel + v * kLanes), t = (x - m[v]) * s[v];
          first[v] += share * t;
          second[v] += share * (t * t - T(1));
        }
      }
      VAE_EXT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        add_to(by_mean + d * kPanel + v * kLanes, first[v] * s[v]);
        add_to(by_logvar + d * kPanel + v * kLanes, T(0.5) * second[v]);
      }
    }
    for (int row = 0; row < kRows; ++row) {
      for (int i = 0; i < kPanel; ++i) by_weight[i] += static_cast<double>(q[row * kPanel + i]);
    }
  }

  static constexpr MixtureKernels<T> kernels() {
    return {inverse_scales, terms, add, shares, z_gradient, parameter_gradients};
  }
};
