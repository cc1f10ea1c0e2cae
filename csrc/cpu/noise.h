// Where the noise of a sampling op comes from: a tensor, or the stream named by a seed.
#pragma once

#include "operand.h"

namespace vae_ext {

// The arguments by which an op names its noise. `noise` goes first, then the 0-dimensional int64
// tensor `seed`, then `seed_value`.
struct NoiseSpec {
  std::optional<Tensor> noise;
  std::optional<Tensor> seed;
  int64_t seed_value;
  int64_t stream;

  uint64_t key() const {
    if (!seed) return static_cast<uint64_t>(seed_value);
    STD_TORCH_CHECK(seed->scalar_type() == ScalarType::Long && seed->numel() == 1,
                    "vae_ext: seed must be a 0-dimensional int64 tensor");
    return static_cast<uint64_t>(*static_cast<const int64_t*>(seed->const_data_ptr()));
  }
};

template <class T>
class Noise {
 public:
  static constexpr int kBuffer = kTile + 8;  // blocks of four are drawn whole

  Noise(const NoiseSpec& spec, const Shape& shape)
      : given_(spec.noise, T(0), shape),
        is_given_(spec.noise.has_value()),
        seed_(is_given_ ? 0 : spec.key()),
        stream_(static_cast<uint64_t>(spec.stream)) {}

  const T* tile(int64_t start, int n, T* buffer) const {
    if (is_given_) return given_.tile(start, n, buffer);
    return kernels<T>().noise(n, seed_, stream_, static_cast<uint64_t>(start), buffer);
  }

 private:
  Input<T> given_;
  bool is_given_;
  uint64_t seed_;
  uint64_t stream_;
};

}  // namespace vae_ext
