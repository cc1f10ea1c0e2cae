// A mixture as the kernels of mixture.cu read it: both sides turned round, so that adjacent threads
// read adjacent words; from then on what all blocks read stays in the caches.
#pragma once

#include "../math/mixture.h"
#include "../ops/mixture.h"
#include "reduce.cuh"

namespace vae_ext {

constexpr int kSquares = 32;  // dimensions that are added up as T

// An entry of a tensor [n, groups, dims].
struct Entry {
  int64_t n, group, dim;
};

// Such a tensor of any dtype and strides.
struct Cube {
  char* data;
  Storage storage;
  int64_t n, groups, dims;
  int64_t stride[3];

  explicit Cube(const Tensor& t)
      : data(static_cast<char*>(const_cast<void*>(t.const_data_ptr()))),
        storage(storage_of(t.scalar_type())),
        n(t.sizes()[0]),
        groups(t.sizes()[1]),
        dims(t.sizes()[2]),
        stride{t.strides()[0], t.strides()[1], t.strides()[2]} {}

  int64_t numel() const { return n * groups * dims; }

  VAE_EXT_DEVICE int64_t offset(const Entry& e) const {
    return e.n * stride[0] + e.group * stride[1] + e.dim * stride[2];
  }
  template <class T>
  VAE_EXT_DEVICE T read(const Entry& e) const {
    return read_element<T>(data, storage, offset(e));
  }
  VAE_EXT_DEVICE void write(const Entry& e, double value) const {
    write_element<double>(data, storage, offset(e), value);
  }
  // The entry at a place of [groups][dims][n].
  VAE_EXT_DEVICE Entry turned(int64_t place) const {
    const int64_t row = place / n;
    return {place - row * n, row / dims, row % dims};
  }
};

VAE_EXT_DEVICE int64_t place_of_thread() {
  return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

// [groups][dims][n], as T.
template <class T, bool kInverse>
__global__ void __launch_bounds__(kThreads, 1) turn_kernel(Cube from, int64_t numel, T* out) {
  const int64_t i = place_of_thread();
  if (i >= numel) return;
  const T x = from.read<T>(from.turned(i));
  out[i] = kInverse ? inverse_scale(x) : x;
}

// A block to a component of a group: what of its log-density depends on no event.
template <class = void>
__global__ void __launch_bounds__(kThreads, 1) constants_kernel(Cube logvars, double* out) {
  const int64_t group = blockIdx.x / logvars.n, component = blockIdx.x % logvars.n;
  double sum = 0;
  for (int64_t d = threadIdx.x; d < logvars.dims; d += kThreads) {
    sum += logvars.read<double>({component, group, d}) + kLog2Pi<double>;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = -0.5 * sum;
}

// A mixture as the kernels read it.
template <class T>
struct Mixture {
  const T *z, *means, *inverse;  // [groups][dims][events or components]
  const double* constants;       // [groups][components]
  char* log_weights;
  Storage weights_storage;
  int64_t by_row, by_component;  // strides of the log-weights
  int64_t rows, components, groups, dims;

  // The log-weight and log-density of an event under a component.
  VAE_EXT_DEVICE double term(int64_t row, int64_t component, int64_t group) const {
    const T* x = z + group * dims * rows + row;
    const T* m = means + group * dims * components + component;
    const T* s = inverse + group * dims * components + component;
    double total = 0;
    for (int64_t begin = 0; begin < dims; begin += kSquares) {
      const int64_t end = smaller(begin + kSquares, dims);
      T sum = T(0);
#pragma unroll 4
      for (int64_t d = begin; d < end; ++d) {
        const T t = (x[d * rows] - m[d * components]) * s[d * components];
        sum = multiply_add(t, t, sum);
      }
      total += static_cast<double>(sum);
    }
    const double weight =
        read_element<double>(log_weights, weights_storage, row * by_row + component * by_component);
    return weight + (constants[group * components + component] - 0.5 * total);
  }
};

inline Tensor workspace(int64_t numel, ScalarType dtype, const Tensor& like) {
  return empty({std::max<int64_t>(numel, 1)}, dtype, like);
}

template <class T>
T* data_of(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// A mixture, and the memory that it is read from.
template <class T>
class Turned {
 public:
  Turned(const Launcher& launcher, const MixtureArguments& a)
      : launcher_(launcher),
        a_(a),
        memory_{turned<false>(a.z), turned<false>(a.means), turned<true>(a.logvars)},
        constants_(workspace(a.groups * a.components, ScalarType::Double, a.z)) {
    launcher_(constants_kernel<>, a.groups * a.components, Cube(a.logvars),
              data_of<double>(constants_));
  }

  Mixture<T> mixture() const {
    return {data_of<T>(memory_[0]),
            data_of<T>(memory_[1]),
            data_of<T>(memory_[2]),
            data_of<double>(constants_),
            static_cast<char*>(const_cast<void*>(a_.log_weights.const_data_ptr())),
            storage_of(a_.log_weights.scalar_type()),
            a_.weights_by_row() ? a_.log_weights.strides()[0] : 0,
            a_.log_weights.strides()[1],
            a_.rows,
            a_.components,
            a_.groups,
            a_.dims};
  }

 private:
  template <bool kInverse>
  Tensor turned(const Tensor& t) const {
    const Cube from(t);
    const Tensor out =
        workspace(from.numel(), sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float, t);
    launcher_(turn_kernel<T, kInverse>, ceil_div(from.numel(), kThreads), from, from.numel(),
              data_of<T>(out));
    return out;
  }

  const Launcher& launcher_;
  const MixtureArguments& a_;
  std::array<Tensor, 3> memory_;
  Tensor constants_;
};

}  // namespace vae_ext
