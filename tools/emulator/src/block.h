// A block of threads: its warps, its shared memory, and the checks of what only runs by luck.
#pragma once

#include "warp.h"

namespace sass {

// Who touched a word of shared memory since the last barrier.
struct SharedWord {
  uint32_t written_in = 0, read_in = 0;  // spans between barriers, from 1
  int16_t writer = -1, reader = -1;      // warps; reader -2: several
};

struct Block {
  Kernel& kernel;
  const std::vector<uint8_t>& parameters;  // constant bank 0
  uint32_t index = 0, threads;
  uint32_t span = 1;  // between barriers
  std::vector<uint8_t> shared;
  std::vector<SharedWord> touched;
  std::vector<Warp> warps;

  Block(Kernel& k, const std::vector<uint8_t>& bank0, uint32_t threads_);

  void run(uint32_t block);

  // Where shared memory starts, as addresses have it.
  uint32_t shared_start() const { return kernel.architecture >= 90 ? 0x400 : 0; }
  void touch_shared(uint32_t address, uint32_t bytes, bool writes, const Warp& by);

 private:
  void run_warp(Warp& w);
  void run_control(Warp& w, const Instruction& i, Lanes group, Lanes on);
  void release(Warp& w, int barrier);
};

}  // namespace sass
