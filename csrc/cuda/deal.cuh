// How the threads of a block are dealt out where several of them, its slices, serve one unit.
#pragma once

#include <algorithm>

#include "../math/portable.h"
#include "launch.cuh"

namespace vae_ext {

// Units and slices are powers of two. Neighbouring threads have neighbouring units of one slice, or
// neighbouring slices of one unit: whichever lie side by side in memory.
class Deal {
 public:
  // Of so many units in each group. No more slices than `most`, and beyond `least` only where
  // threads would have no unit, or there would be few blocks: each is a step more in the sums.
  Deal(int64_t units, int64_t groups, int64_t most, int64_t least = 1, bool slices_adjacent = false)
      : adjacent_(slices_adjacent) {
    least = std::max(least, kThreads / std::max<int64_t>(units, 1));
    while (slices() < std::min<int64_t>(most, kThreads) &&
           (slices() < least || blocks(units, groups) < SumPlan::kFewBlocks)) {
      --log_units_;
    }
  }

  int64_t blocks(int64_t units, int64_t groups) const {
    return groups * ceil_div(units, this->units());
  }

  VAE_EXT_INLINE int units() const { return 1 << log_units_; }
  VAE_EXT_INLINE int slices() const { return kThreads >> log_units_; }
  VAE_EXT_DEVICE int unit() const {
    return adjacent_ ? thread() >> (kLogThreads - log_units_) : thread() & (units() - 1);
  }
  VAE_EXT_DEVICE int slice() const {
    return adjacent_ ? thread() & (slices() - 1) : thread() >> log_units_;
  }

  // What add makes of the values of a unit's slices, in each of their threads. Every thread of the
  // block calls it; the memory may be written again once all have passed another barrier.
  template <class T, class Add>
  VAE_EXT_DEVICE T all(T x, T (&memory)[kThreads], Add add) const {
    const int end = adjacent_ && slices() < 32 ? slices() : 32;
#pragma unroll 1
    for (int mask = adjacent_ ? 1 : units(); mask < end; mask *= 2) {
      x = add(x, static_cast<T>(__shfl_xor_sync(0xffffffffu, x, mask)));
    }
    if (slices() == (adjacent_ ? end : 1)) return x;  // all were in a warp, or there is one
    memory[thread()] = x;
    __syncthreads();
    // Of a warp its first lane that has the unit knows what all know.
    const int step = adjacent_ || units() < 32 ? 32 : units();
    const int first = adjacent_ ? unit() * slices() : unit();
    const int count = adjacent_ ? slices() / 32 : kThreads / step;
    T total = memory[first];
#pragma unroll 1
    for (int i = 1; i < count; ++i) total = add(total, memory[first + i * step]);
    return total;
  }

 private:
  static constexpr int kLogThreads = 8;
  static_assert(kThreads == 1 << kLogThreads);

  VAE_EXT_DEVICE static int thread() { return static_cast<int>(threadIdx.x); }

  bool adjacent_;
  int log_units_ = kLogThreads;
};

struct Larger {
  template <class T>
  VAE_EXT_DEVICE T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};
struct Plus {
  template <class T>
  VAE_EXT_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace vae_ext
