// A formula that is split at a target of 0: which elements are whose. Part of kernels.inl, inside
// its namespace.
//
// No element's bits may depend on the others of its tile, or on its place among them. So all loops
// run in whole vectors, and one compiled copy of each: a compiler may fuse another product and sum
// where it computes one by one, or has two copies.

constexpr int kVector = 16;
constexpr int whole_vectors(int n) { return (n + kVector - 1) / kVector * kVector; }

#if defined(__GNUC__) && !defined(__clang__)
#define VAE_EXT_ONE_COPY __attribute__((noipa))
#else
#define VAE_EXT_ONE_COPY __attribute__((noinline))
#endif

// Of as many tiles. What is null is not read or written.
template <class T, int kCount>
struct Pointers {
  T* at[kCount];
};

// How many counts are 0, and whether the others are all at least 1.
struct CountsSeen {
  int zeros;
  bool whole;
};
inline CountsSeen look_at(int n, const float* x) {
  int zeros = 0, fractions = 0;
  for (int i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(x[i]) << 1;  // of -0 those of 0; NaN's are more than those of 1
    zeros += bits == 0;
    fractions += bits - 1 < (bits_of(1.f) << 1) - 1;
  }
  return {zeros, fractions == 0};
}

// The numbers of those that are 0, or of those that are not; `index` has room for eight more. Eight
// at a time, by a table of which bits a byte has: where half are 0 no branch could be foreseen.
static_assert(kTile <= 256);
using Index = uint8_t;
struct BitsOfBytes {
  Index numbers[256][8] = {};
  constexpr BitsOfBytes() {
    for (int byte = 0; byte < 256; ++byte) {
      for (int bit = 0, found = 0; bit < 8; ++bit) {
        if (byte >> bit & 1) numbers[byte][found++] = static_cast<Index>(bit);
      }
    }
  }
};
constexpr BitsOfBytes kBitsOfBytes;

inline unsigned zeros_of_eight(const float* x) {
#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)
  EightFloats floats;
  __builtin_memcpy(&floats, x, sizeof floats);
  return static_cast<unsigned>(__builtin_ia32_movmskps256((EightFloats)(floats == 0.f)));
#else
  unsigned bits = 0;
  for (int i = 0; i < 8; ++i) bits |= static_cast<unsigned>(x[i] == 0.f) << i;
  return bits;
#endif
}
inline void find(bool zeros, int n, const float* x, Index* index) {
  int found = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    const unsigned byte = zeros_of_eight(x + i) ^ (zeros ? 0 : 0xff);
    uint64_t numbers;  // eight
    __builtin_memcpy(&numbers, kBitsOfBytes.numbers[byte], sizeof numbers);
    numbers += static_cast<uint64_t>(i) * 0x0101010101010101u;
    __builtin_memcpy(index + found, &numbers, sizeof numbers);
    found += __builtin_popcount(byte);
  }
  for (; i < n; ++i) {
    index[found] = static_cast<Index>(i);
    found += (x[i] == 0.f) == zeros;
  }
}

// run<kTargets>(n, in, out), in one copy.
template <Targets kTargets, class T, int kIn, int kOut, class Run>
VAE_EXT_ONE_COPY void run_on(const Run& run, int n, const Pointers<const T, kIn>& in,
                             const Pointers<T, kOut>& out) {
  run.template operator()<kTargets>(n, in, out);
}

// run(n, in, out) for the elements at `index` alone, brought together, and copies of the first up
// to whole vectors.
template <class T, int kIn, int kOut, class Run>
void moved(int count, const Index* index, const Pointers<const T, kIn>& in,
           const Pointers<T, kOut>& out, Run run) {
  if (count == 0) return;
  alignas(64) T inputs[kIn][kTile], outputs[kOut][kTile];
  Pointers<const T, kIn> from;
  Pointers<T, kOut> to;
  for (int k = 0; k < kIn; ++k) {
    for (int j = 0; j < count; ++j) inputs[k][j] = in.at[k][index[j]];
    for (int j = count; j < whole_vectors(count); ++j) inputs[k][j] = inputs[k][0];
    from.at[k] = inputs[k];
  }
  for (int k = 0; k < kOut; ++k) to.at[k] = outputs[k];
  run(whole_vectors(count), from, to);
  for (int k = 0; k < kOut; ++k) {
    if (out.at[k] == nullptr) continue;
    for (int j = 0; j < count; ++j) out.at[k][index[j]] = outputs[k][j];
  }
}

// run(n, in, out) in whole vectors.
template <class T, int kIn, int kOut, class Run>
void in_vectors(int n, const Pointers<const T, kIn>& in, const Pointers<T, kOut>& out, Run run) {
  const int body = n / kVector * kVector;
  if (body > 0) run(body, in, out);
  Index rest[kVector];
  for (int j = 0; j < n - body; ++j) rest[j] = static_cast<Index>(body + j);
  moved(n - body, rest, in, out, run);
}

// run<kTargets>(n, in, out): the formula of most targets for all elements, and then that of the few
// for those. In double, where log is the C library's and nothing is a vector, one for each.
template <class F, class T, int kIn, int kOut, class Run>
void split_at_zero(int n, const Pointers<const T, kIn>& in, const Pointers<T, kOut>& out,
                   const Run& run) {
  if constexpr (sizeof(T) == sizeof(float)) {
    const float* targets = in.at[F::kTarget];
    const auto [zeros, whole] = look_at(n, targets);
    const auto others = [&, whole = whole](int count, const auto& from, const auto& to) {
      whole ? run_on<Targets::kWhole>(run, count, from, to)
            : run_on<Targets::kPositive>(run, count, from, to);
    };
    const auto of_zero = [&](int count, const auto& from, const auto& to) {
      run_on<Targets::kZero>(run, count, from, to);
    };
    Index few[kTile + 8];
    if (2 * zeros > n) {
      in_vectors(n, in, out, of_zero);
      if (zeros < n) find(false, n, targets, few);
      moved(n - zeros, few, in, out, others);
    } else {
      in_vectors(n, in, out, others);
      if (F::kServesZero || zeros == 0) return;
      find(true, n, targets, few);
      moved(zeros, few, in, out, of_zero);
    }
  } else {
    run.template operator()<Targets::kAny>(n, in, out);
  }
}
