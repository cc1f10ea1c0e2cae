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

  // What the running thread does at a barrier.
  static void barrier() {
    Fiber& fiber = current_->fibers_[threadIdx.x];
    ++fiber.barriers;
    swapcontext(&fiber.context, &current_->scheduler_);
  }

  // The value that the lane `mask` away holds. Every thread of the block must call it.
  static double shuffle_xor(double value, int mask) {
    SimulatedBlock& block = *current_;
    block.lanes_[threadIdx.x] = value;
    barrier();
    const double other = block.lanes_[threadIdx.x ^ static_cast<unsigned>(mask)];
    barrier();
    return other;
  }

 private:
  static constexpr size_t kStack = 256 * 1024;
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    int barriers;
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
      fiber.barriers = 0;
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &SimulatedBlock::enter, 0);
    }
    const size_t n = fibers_.size();
    for (bool forwards = true, left = true; left; forwards = !forwards) {
      left = false;
      for (size_t i = 0; i < n; ++i) {
        const size_t t = forwards ? i : n - 1 - i;
        if (fibers_[t].done) continue;
        threadIdx.x = static_cast<unsigned>(t);
        swapcontext(&scheduler_, &fibers_[t].context);
        left = left || !fibers_[t].done;
      }
      // A barrier that only some threads reach is undefined on a GPU.
      for (const Fiber& fiber : fibers_) {
        if (fiber.done != fibers_[0].done || fiber.barriers != fibers_[0].barriers) std::abort();
      }
    }
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
