// The part of CUDA that the kernels use, for an ordinary C++ compiler: with VAE_EXT_CUDA_ON_HOST
// defined, the .cu files run on the CPU, launch geometry, barriers, shuffles and all. The tests use
// it where there is no GPU.
//
// The threads of a block are fibers. Each runs until it meets a barrier (a shuffle has two), then
// the next one does, forwards in one phase and backwards in the following: a missing barrier shows.
#pragma once

#include <stdint.h>
#include <ucontext.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static thread_local
#define __launch_bounds__(...)

struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};
struct Index3 {
  unsigned x = 0;
};

inline thread_local Index3 threadIdx, blockIdx, blockDim, gridDim;

inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
}

namespace vae_ext {

class SimulatedBlock {
 public:
  static inline int64_t launches = 0;

  static void run(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
    ++launches;
    SimulatedBlock block(threads, kernel);
    gridDim.x = blocks;
    blockDim.x = threads;
    for (unsigned b = 0; b < blocks; ++b) {
      blockIdx.x = b;
      block.run_one();
    }
  }

  // What the running thread does at a barrier of the block.
  static void barrier() {
    ++current_->fibers_[threadIdx.x].barriers;
    pause();
  }

  // The value that the lane `mask` away holds. Every lane of the warp must call it.
  static double shuffle_xor(double value, int mask) {
    SimulatedBlock& block = *current_;
    block.lanes_[threadIdx.x] = value;
    pause();
    const double other = block.lanes_[threadIdx.x ^ static_cast<unsigned>(mask)];
    pause();
    return other;
  }

 private:
  static constexpr size_t kStack = 256 * 1024, kWarp = 32;
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    int pauses;    // where it waited for others
    int barriers;  // of them those for the whole block
    bool done;
  };

  SimulatedBlock(unsigned threads, const std::function<void()>& kernel)
      : kernel_(kernel), fibers_(threads), lanes_(threads) {
    // Uninitialized: a page of a stack that is never touched costs nothing.
    for (Fiber& fiber : fibers_) fiber.stack.reset(new char[kStack]);
  }

  void run_one() {
    current_ = this;
    for (Fiber& fiber : fibers_) {
      fiber.pauses = fiber.barriers = 0;
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &SimulatedBlock::enter, 0);
    }
    // Warps in either order, each as far as the next barrier.
    int passed = 0;
    for (bool forwards = true;; forwards = !forwards) {
      size_t waiting = 0, done = 0;
      const size_t warps = fibers_.size() / kWarp;
      for (size_t i = 0; i < warps; ++i) {
        const size_t first = kWarp * (forwards ? i : warps - 1 - i);
        const Fiber& lane = fibers_[first];
        while (!lane.done && lane.barriers == passed) step(first, forwards);
        done += lane.done;
        waiting += !lane.done;
      }
      if (waiting == 0) return;
      // A barrier that only some warps reach is undefined on a GPU.
      if (done > 0) std::abort();
      ++passed;
    }
  }

  // A warp up to where its lanes wait for each other. That only some do is undefined, too.
  void step(size_t first, bool forwards) {
    for (size_t i = 0; i < kWarp; ++i) {
      const size_t t = first + (forwards ? i : kWarp - 1 - i);
      threadIdx.x = static_cast<unsigned>(t);
      swapcontext(&scheduler_, &fibers_[t].context);
    }
    const Fiber& lead = fibers_[first];
    for (size_t t = first; t < first + kWarp; ++t) {
      const Fiber& lane = fibers_[t];
      if (lane.done != lead.done || lane.pauses != lead.pauses || lane.barriers != lead.barriers) {
        std::abort();
      }
    }
  }

  static void pause() {
    Fiber& fiber = current_->fibers_[threadIdx.x];
    ++fiber.pauses;
    swapcontext(&fiber.context, &current_->scheduler_);
  }

  static void enter() {
    SimulatedBlock& block = *current_;
    block.kernel_();
    block.fibers_[threadIdx.x].done = true;
  }

  static inline thread_local SimulatedBlock* current_ = nullptr;
  const std::function<void()>& kernel_;
  ucontext_t scheduler_;
  std::vector<Fiber> fibers_;
  std::vector<double> lanes_;
};

}  // namespace vae_ext

inline void __syncthreads() { vae_ext::SimulatedBlock::barrier(); }
inline double __shfl_xor_sync(unsigned, double value, int mask) {
  return vae_ext::SimulatedBlock::shuffle_xor(value, mask);
}
