// Where the noise of a sampling op comes from: a tensor, or the stream named by a seed.
#pragma once

#include <cstring>

#include "operand.h"

namespace vae_ext {

template <class T>
class Noise {
 public:
  // `shape`: of z, with its samples.
  Noise(const NoiseArguments& from, const Shape& shape)
      : given_(from.noise, T(0), shape),
        is_given_(from.noise.has_value()),
        seed_(static_cast<uint64_t>(from.seed_value)),
        stream_(static_cast<uint64_t>(from.stream)) {
    if (from.places && !is_given_) places_.emplace(*from.places, shape, false);
    if (!is_given_ && from.seed) {
      seed_ = static_cast<uint64_t>(*static_cast<const int64_t*>(from.seed->const_data_ptr()));
    }
  }

  const T* tile(int64_t start, int n, T* buffer) const {
    if (is_given_) return given_.tile(start, n, buffer);
    if (places_ && !places_->adjacent()) return tile_of_places(start, n, buffer);
    const int64_t first = places_ ? places_->offset + start : start;
    return kernels<T>().noise(n, seed_, stream_, static_cast<uint64_t>(first), buffer);
  }

 private:
  // Runs of adjacent elements of the stream, of which whole blocks are drawn, those of many runs
  // together: where they are, if all runs are of whole blocks, or else beside it, and copied.
  const T* tile_of_places(int64_t start, int n, T* out) const {
    constexpr int kCopied = 4;  // at a time, beyond the end of a run if need be
    struct Run {
      int from, at, count;  // in what is drawn, in `out`
    };
    alignas(64) uint64_t block[kNoiseBlocks] = {};
    Run runs[kNoiseBlocks];
    alignas(64) T drawn[4 * kNoiseBlocks + kCopied];
    int n_blocks = 0, n_runs = 0;
    bool whole = true;
    const auto flush = [&] {
      if (n_runs == 0) return;
      T* to = whole ? out + runs[0].at : drawn;
      kernels<T>().noise_of_blocks(n_blocks, seed_, stream_, block, to);
      for (int r = 0; r < n_runs && !whole; ++r) {
        const Run& run = runs[r];
        for (int i = 0; i < run.count; i += kCopied) {
          std::memcpy(out + run.at + i, drawn + run.from + i, kCopied * sizeof(T));
        }
      }
      n_blocks = n_runs = 0;
      whole = true;
    };
    const auto add = [&](int64_t first, int at, int count) {
      while (count > 0) {
        const int skip = static_cast<int>(first % 4);
        const int room = 4 * (kNoiseBlocks - n_blocks) - skip, some = std::min(count, room);
        whole = whole && skip == 0 && some % 4 == 0;
        runs[n_runs++] = {4 * n_blocks + skip, at, some};
        for (int b = 0; b < (skip + some + 3) / 4; ++b) {
          block[n_blocks++] = static_cast<uint64_t>(first / 4 + b);
        }
        first += some, at += some, count -= some;
        if (n_blocks == kNoiseBlocks) flush();
      }
    };
    places_->layout.for_each_run(start, n, [&](int64_t offset, int64_t stride, int at, int count) {
      const int64_t first = places_->offset + offset;
      if (stride == 1) return add(first, at, count);
      for (int i = 0; i < count; ++i) add(first + i * stride, at + i, 1);
    });
    flush();
    return out;
  }

  Input<T> given_;
  bool is_given_;
  uint64_t seed_;
  uint64_t stream_;
  std::optional<Places> places_;
};

}  // namespace vae_ext
