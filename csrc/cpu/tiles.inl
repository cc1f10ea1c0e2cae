// What the tile kernels do besides formulas: conversion, noise, sums. Part of kernels.inl, inside
// its namespace.

// ---- Storage -----------------------------------------------------------------------------------

template <class T, class S, class Convert>
inline void convert(int n, const S* source, int64_t source_stride, T* out, int64_t out_stride,
                    Convert to) {
  if (source_stride == 1 && out_stride == 1) {
    for (int i = 0; i < n; ++i) out[i] = to(source[i]);
  } else {
    for (int i = 0; i < n; ++i) out[i * out_stride] = to(source[i * source_stride]);
  }
}

template <class T, class S>
void load_integers(int n, const S* source, int64_t stride, T* out) {
  convert(n, source, stride, out, 1, [](S x) { return static_cast<T>(x); });
}

// float16 by the instructions for it, eight at a time.
#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)
using EightFloats = float __attribute__((vector_size(32)));
using EightHalves = int16_t __attribute__((vector_size(16)));
#endif

void load_halves(int n, const uint16_t* source, float* out) {
  int i = 0;
#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)
  for (; i + 8 <= n; i += 8) {
    EightHalves halves;
    __builtin_memcpy(&halves, source + i, sizeof halves);
    const auto floats = (EightFloats)__builtin_ia32_vcvtph2ps256(halves);
    __builtin_memcpy(out + i, &floats, sizeof floats);
  }
#endif
  for (; i < n; ++i) out[i] = float_of_half(source[i]);
}
void store_halves(int n, const float* source, uint16_t* out) {
  int i = 0;
#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)
  for (; i + 8 <= n; i += 8) {
    EightFloats floats;
    __builtin_memcpy(&floats, source + i, sizeof floats);
    const auto halves = (EightHalves)__builtin_ia32_vcvtps2ph256(floats, 0);  // to nearest even
    __builtin_memcpy(out + i, &halves, sizeof halves);
  }
#endif
  for (; i < n; ++i) out[i] = half_of_float(source[i]);
}

template <class T>
void load(int n, Storage storage, const void* source, int64_t stride, T* out) {
  switch (storage) {
    case Storage::kFloat:
      return convert(n, static_cast<const float*>(source), stride, out, 1,
                     [](float x) { return static_cast<T>(x); });
    case Storage::kDouble:
      return convert(n, static_cast<const double*>(source), stride, out, 1,
                     [](double x) { return static_cast<T>(x); });
    case Storage::kHalf:
      if constexpr (sizeof(T) == sizeof(float)) {
        if (stride == 1) return load_halves(n, static_cast<const uint16_t*>(source), out);
      }
      return convert(n, static_cast<const uint16_t*>(source), stride, out, 1,
                     [](uint16_t x) { return static_cast<T>(float_of_half(x)); });
    case Storage::kBFloat16:
      return convert(n, static_cast<const uint16_t*>(source), stride, out, 1,
                     [](uint16_t x) { return static_cast<T>(float_of_bfloat16(x)); });
    case Storage::kByte:
      return load_integers(n, static_cast<const uint8_t*>(source), stride, out);
    case Storage::kInt16:
      return load_integers(n, static_cast<const int16_t*>(source), stride, out);
    case Storage::kUInt16:
      return load_integers(n, static_cast<const uint16_t*>(source), stride, out);
    case Storage::kInt32:
      return load_integers(n, static_cast<const int32_t*>(source), stride, out);
    case Storage::kInt64:
      return load_integers(n, static_cast<const int64_t*>(source), stride, out);
  }
}

template <class T>
void store(int n, Storage storage, const T* source, void* out, int64_t stride) {
  switch (storage) {
    case Storage::kFloat:
      return convert(n, source, 1, static_cast<float*>(out), stride,
                     [](T x) { return static_cast<float>(x); });
    case Storage::kDouble:
      return convert(n, source, 1, static_cast<double*>(out), stride,
                     [](T x) { return static_cast<double>(x); });
    case Storage::kHalf:
      if constexpr (sizeof(T) == sizeof(float)) {
        if (stride == 1) return store_halves(n, source, static_cast<uint16_t*>(out));
      }
      return convert(n, source, 1, static_cast<uint16_t*>(out), stride,
                     [](T x) { return half_of_float(static_cast<float>(x)); });
    case Storage::kBFloat16:
      return convert(n, source, 1, static_cast<uint16_t*>(out), stride,
                     [](T x) { return bfloat16_of_float(static_cast<float>(x)); });
    default:
      return;  // integers are never an output
  }
}

// ---- Noise -------------------------------------------------------------------------------------

// Of a tile's blocks and one more, rounded up to whole groups.
constexpr int kWords = kTile / 4 + 32;

// The blocks that elements start ... start + n - 1 lie in, word by word.
struct Words {
  alignas(64) uint32_t word[4][kWords];
  int blocks;
  int skip;  // elements of the first block before `start`

  Words(int n, uint64_t seed, uint64_t stream, uint64_t start) {
    skip = static_cast<int>(start % 4);
    blocks = (skip + n + 3) / 4;
    philox_blocks(blocks, seed, stream, start / 4, word);
  }
};

// Of floats whole vectors, though nobody asks for the last blocks: one by one would take longer.
template <class T>
void normals(int blocks, const uint32_t (&word)[4][kWords], T* __restrict out) {
  constexpr int kLanes = sizeof(T) == sizeof(float) ? kFloatLanes : 1;
  const int whole = (blocks + kLanes - 1) / kLanes * kLanes;
  for (int b = 0; b < whole; ++b) {
    box_muller(word[0][b], word[1][b], &out[4 * b], &out[4 * b + 1]);
    box_muller(word[2][b], word[3][b], &out[4 * b + 2], &out[4 * b + 3]);
  }
}

template <class T>
const T* noise(int n, uint64_t seed, uint64_t stream, uint64_t start, T* buffer) {
  const Words w(n, seed, stream, start);
  normals(w.blocks, w.word, buffer);
  return buffer + w.skip;
}

template <class T>
void noise_of_blocks(int n, uint64_t seed, uint64_t stream, const uint64_t* blocks, T* out) {
  alignas(64) uint32_t word[4][kWords];
  philox_blocks_at(n, seed, stream, blocks, word);
  normals(n, word, out);
}

void words(int n, uint64_t seed, uint64_t stream, uint64_t start, int64_t* out) {
  const Words w(n, seed, stream, start);
  for (int i = 0; i < n; ++i) out[i] = w.word[(i + w.skip) % 4][(i + w.skip) / 4];
}

// ---- Sums --------------------------------------------------------------------------------------

// Sixteen sums in double.
constexpr int kSums = 16;
template <class T>
struct Sums {
  double sums[kSums] = {};

  VAE_EXT_INLINE void add(const T* x) {
    for (int j = 0; j < kSums; ++j) sums[j] += static_cast<double>(x[j]);
  }
};

// Floats are widened by the instruction for it: in a loop GCC does that in pieces of two, from
// registers into which it has brought them first.
#if defined(VAE_EXT_AVX512) || defined(VAE_EXT_AVX2)
template <>
struct Sums<float> {
#if defined(VAE_EXT_AVX512)
  using Floats = float __attribute__((vector_size(32)));
  using Doubles = double __attribute__((vector_size(64)));
#else
  using Floats = float __attribute__((vector_size(16)));
  using Doubles = double __attribute__((vector_size(32)));
#endif
  static constexpr int kLanes = sizeof(Doubles) / sizeof(double);
  Doubles sums[kSums / kLanes] = {};

  VAE_EXT_INLINE void add(const float* x) {
    VAE_EXT_UNROLL
    for (int j = 0; j < kSums / kLanes; ++j) {
      Floats floats;
      __builtin_memcpy(&floats, x + j * kLanes, sizeof floats);
#if defined(__clang__)
      sums[j] += __builtin_convertvector(floats, Doubles);
#elif defined(VAE_EXT_AVX512)
      sums[j] += (Doubles)__builtin_ia32_cvtps2pd512_mask(floats, Doubles{}, 0xFF, 4);
#else
      sums[j] += (Doubles)__builtin_ia32_cvtps2pd256(floats);
#endif
    }
  }
};
#endif

template <class T>
double sum(int n, const T* x) {
  if (n < kSums) {
    double total = 0;
    for (int i = 0; i < n; ++i) total += static_cast<double>(x[i]);
    return total;
  }
  Sums<T> sums;
  const int rest = n % kSums;
  for (int i = 0; i < n - rest; i += kSums) sums.add(x + i);
  double lane[kSums];
  __builtin_memcpy(lane, sums.sums, sizeof lane);
  // The rest, where the last of whole vectors would have them.
  for (int j = kSums - rest; j < kSums; ++j) lane[j] += static_cast<double>(x[n - kSums + j]);
  for (int width = kSums / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

template <class T>
void fill(int n, T value, T* out) {
  for (int i = 0; i < n; ++i) out[i] = value;
}

template <class T>
void add(int n, T* __restrict out, const T* __restrict x) {
  for (int i = 0; i < n; ++i) out[i] += x[i];
}

template <class T>
void add_to_sums(int n, double* __restrict sums, const T* __restrict x) {
  for (int i = 0; i < n; ++i) sums[i] += static_cast<double>(x[i]);
}

// ---- Weights -----------------------------------------------------------------------------------

template <class T>
void mask(int n, T* __restrict out, const T* x, const T* weights) {
  for (int i = 0; i < n; ++i) out[i] = weights[i] == T(0) ? T(0) : x[i];
}

// What has weight 0 is 0, even if it was NaN.
template <class T>
void weigh(int n, T* __restrict x, const T* weights) {
  for (int i = 0; i < n; ++i) x[i] = weights[i] == T(0) ? T(0) : x[i] * weights[i];
}
