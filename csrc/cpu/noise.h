// Where the noise of a sampling op comes from: a tensor, or the stream named by a seed.
#pragma once

#include "operand.h"

namespace vae_ext {

template <class T>
class Noise {
 public:
  static constexpr int kBuffer = kTile + 8;  // blocks of four are drawn whole

  Noise(const NoiseArguments& from, const Shape& shape)
      : given_(from.noise, T(0), shape),
        is_given_(from.noise.has_value()),
        seed_(static_cast<uint64_t>(from.seed_value)),
        stream_(static_cast<uint64_t>(from.stream)) {
    if (!is_given_ && from.seed) {
      seed_ = static_cast<uint64_t>(*static_cast<const int64_t*>(from.seed->const_data_ptr()));
    }
  }

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
