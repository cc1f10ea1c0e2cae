#include "block.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace sass {
namespace {

constexpr uint32_t kNowhere = ~0u;
constexpr uint64_t kMostSteps = 400'000'000;  // of a warp

Lanes lanes_in(const Warp& w, Warp::State state) {
  return lanes_where([&](int l) { return w.state[l] == state; });
}

Lanes guard(const Warp& w, const Instruction& i) {
  return i.guard.kind == Kind::kNone ? kAllLanes : predicates(w, i.guard);
}

// VAE_EXT_EMULATED_TRACE=1: what the first warp does, and its first lane's result before.
const bool kTrace = std::getenv("VAE_EXT_EMULATED_TRACE") != nullptr;

void trace(const Warp& w, const Instruction& i, Lanes on) {
  uint32_t result = 0;
  for (const Operand& o : i.operands) {
    if (o.kind == Kind::kRegister) result = w.registers[o.index][0];
    if (o.kind == Kind::kUniform) result = w.uniform[o.index];
    if (o.kind == Kind::kRegister || o.kind == Kind::kUniform) break;
  }
  std::fprintf(stderr, "%05x %08x %-70s %08x\n", i.pc, on, i.text.c_str(), result);
}

void move(Warp& w, Lanes lanes, uint32_t to) {
  for (int l = 0; l < kLanes; ++l) {
    if (lanes >> l & 1) w.pc[l] = to;
  }
}

}  // namespace

Block::Block(Kernel& k, const std::vector<uint8_t>& bank0, uint32_t threads_)
    : kernel(k), parameters(bank0), threads(threads_) {
  shared.resize(shared_start() + static_cast<size_t>(kernel.shared_bytes) + 16);
  touched.resize(shared.size() / 4 + 1);
  warps.resize((threads + kLanes - 1) / kLanes);
}

void Block::touch_shared(uint32_t address, uint32_t bytes, bool writes, const Warp& by) {
  const auto warp = static_cast<int16_t>(by.number);
  for (uint32_t word = address / 4; word <= (address + bytes - 1) / 4; ++word) {
    SharedWord& t = touched[word];
    const bool other_wrote = t.written_in == span && t.writer != warp;
    const bool other_read = t.read_in == span && t.reader != warp;
    if (other_wrote || (writes && other_read)) {
      problem("warps meet in shared memory without a barrier in " + kernel.title);
    }
    if (writes) {
      t.written_in = span;
      t.writer = warp;
    } else {
      t.reader = t.read_in == span && t.reader != warp ? int16_t{-2} : warp;
      t.read_in = span;
    }
  }
}

void Block::run(uint32_t block) {
  index = block;
  std::fill(shared.begin(), shared.end(), uint8_t{0xcd});
  for (size_t n = 0; n < warps.size(); ++n) {
    Warp& w = warps[n];
    // What nobody has written is not zero.
    std::memset(w.registers, 0xcd, sizeof w.registers);
    std::memset(w.registers[kZeroRegister], 0, sizeof(Row));
    std::memset(w.uniform, 0xcd, sizeof w.uniform);
    std::fill(std::begin(w.predicate), std::end(w.predicate), 0u);
    std::fill(std::begin(w.uniform_predicate), std::end(w.uniform_predicate), false);
    std::memset(w.convergence, 0, sizeof w.convergence);
    w.block = this;
    w.number = static_cast<int>(n);
    w.first_thread = kLanes * w.number;
    for (int l = 0; l < kLanes; ++l) {
      w.pc[l] = 0;
      w.waits_at[l] = -1;
      const bool exists = static_cast<uint32_t>(w.first_thread + l) < threads;
      w.state[l] = exists ? Warp::kRuns : Warp::kDone;
    }
  }
  for (bool forwards = true;; forwards = !forwards) {  // one order would hide what depends on it
    for (size_t n = 0; n < warps.size(); ++n) {
      run_warp(warps[forwards ? n : warps.size() - 1 - n]);
    }
    ++span;
    bool waiting = false, done = false;
    for (Warp& w : warps) {
      const Lanes at_barrier = lanes_in(w, Warp::kWaitsForWarps);
      waiting = waiting || at_barrier != 0;
      done = done || lanes_in(w, Warp::kDone) != 0;
      for (int l = 0; l < kLanes; ++l) {
        if (at_barrier >> l & 1) w.state[l] = Warp::kRuns;
      }
    }
    if (!waiting) break;
    if (done) problem("threads that left before a barrier in " + kernel.title);
  }
  ++kernel.blocks;
  kernel.threads += threads;
}

// Lanes that wait for one another go on when all of them that are not done are there.
void Block::release(Warp& w, int barrier) {
  const auto is_there = [&](int l) {
    return w.state[l] == Warp::kWaitsForLanes && w.waits_at[l] == barrier;
  };
  const Lanes there = lanes_where(is_there);
  const Lanes done = lanes_in(w, Warp::kDone);
  for (int l = 0; l < kLanes; ++l) {
    if (!is_there(l)) continue;
    const Lanes wanted = w.convergence[barrier][l];
    if ((wanted & ~(there | done)) != 0) continue;
    for (int q = 0; q < kLanes; ++q) {
      if ((wanted >> q & 1) == 0 || !is_there(q)) continue;
      w.state[q] = Warp::kRuns;
      w.pc[q] += 16;
    }
  }
}

// Moves the lanes of `group`, of which those of `on` pass the guard.
void Block::run_control(Warp& w, const Instruction& i, Lanes group, Lanes on) {
  const uint32_t next = i.pc + 16;
  const Lanes live = ~lanes_in(w, Warp::kDone);
  move(w, on, i.pc);
  move(w, group & ~on, next);
  if (i.opcode == "BRA") {
    Lanes taken = i.operands.size() == 2 ? on & predicates(w, i[0]) : on;
    if (i.text.find("BRA.DIV") != std::string::npos) taken = group == live ? 0 : on;
    move(w, on & ~taken, next);
    move(w, taken, i.target);
  } else if (i.opcode == "BRX") {
    for (int l = 0; l < kLanes; ++l) {
      if (on >> l & 1) {
        w.pc[l] = next + w.registers[i[0].index][l] + static_cast<uint32_t>(i.displacement);
      }
    }
  } else if (i.opcode == "BRXU") {
    move(w, on, next + w.uniform[i[0].index] + static_cast<uint32_t>(i.displacement));
  } else if (i.opcode == "CALL") {
    move(w, on, i.target);
  } else if (i.opcode == "RET") {
    for (int l = 0; l < kLanes; ++l) {
      if (on >> l & 1) {
        w.pc[l] = w.registers[i[0].index][l] + static_cast<uint32_t>(i.displacement);
      }
    }
  } else if (i.opcode == "BSSY") {
    for (int l = 0; l < kLanes; ++l) {
      if (on >> l & 1) w.convergence[i[0].index][l] = on;
    }
    move(w, on, next);
  } else if (i.opcode == "BSYNC") {
    for (int l = 0; l < kLanes; ++l) {
      if ((on >> l & 1) == 0) continue;
      w.state[l] = Warp::kWaitsForLanes;
      w.waits_at[l] = i[0].index;
    }
    release(w, i[0].index);
  } else if (i.opcode == "BREAK") {
    const Lanes leaving = i.operands.size() == 2 ? on & predicates(w, i[0]) : on;
    const int barrier = i.operands.back().index;
    for (int q = 0; q < kLanes; ++q) {
      if ((leaving >> q & 1) == 0) w.convergence[barrier][q] &= ~leaving;
    }
    move(w, on, next);
    release(w, barrier);
  } else if (i.opcode == "BAR") {
    if (group != live || on != group) problem("a barrier with lanes apart in " + kernel.title);
    move(w, on, next);
    for (int l = 0; l < kLanes; ++l) {
      if (on >> l & 1) w.state[l] = Warp::kWaitsForWarps;
    }
  } else if (i.opcode == "WARPSYNC") {
    if (i.text.find("COLLECTIVE") != std::string::npos) {
      problem("a shuffle of lanes that have parted in " + kernel.title);
    }
    if (group != live) problem("a barrier of a warp with lanes apart in " + kernel.title);
    if (!i.operands.empty() && i[0].kind == Kind::kImmediate &&
        (group & ~static_cast<Lanes>(i[0].bits)) != 0) {
      problem("lanes at a barrier of a warp that does not name them in " + kernel.title);
    }
    move(w, on, next);
  } else if (i.opcode == "ENDCOLLECTIVE") {
    move(w, on, next);
  } else if (i.opcode == "EXIT") {
    for (int l = 0; l < kLanes; ++l) {
      if (on >> l & 1) w.state[l] = Warp::kDone;
    }
    for (int b = 0; b < 16; ++b) release(w, b);
  } else {
    problem("not known: " + i.text);
    move(w, on, next);
  }
}

// Until every lane waits at a barrier of the block, or is done. Of lanes that are apart, those run
// that are furthest behind.
void Block::run_warp(Warp& w) {
  uint64_t steps = 0;
  for (;;) {
    uint32_t pc = kNowhere, others = kNowhere;
    for (int l = 0; l < kLanes; ++l) {
      if (w.state[l] == Warp::kRuns) pc = std::min(pc, w.pc[l]);
    }
    if (pc == kNowhere) {
      if (lanes_in(w, Warp::kWaitsForLanes) != 0) {
        problem("lanes wait for ever in " + kernel.title);
        std::fill(std::begin(w.state), std::end(w.state), Warp::kDone);
      }
      return;
    }
    Lanes group = 0;
    for (int l = 0; l < kLanes; ++l) {
      if (w.state[l] != Warp::kRuns) continue;
      if (w.pc[l] == pc) {
        group |= 1u << l;
      } else {
        others = std::min(others, w.pc[l]);
      }
    }
    for (;;) {
      if (pc / 16 >= kernel.code.size() || ++steps > kMostSteps) {
        problem("a warp that does not end in " + kernel.title);
        print_problems();
        std::abort();
      }
      const Instruction& i = kernel.code[pc / 16];
      const Lanes on = group & guard(w, i);
      if (kTrace && index == 0 && w.number == 0) trace(w, i, on);
      ++i.warps;
      i.lanes += static_cast<uint64_t>(std::popcount(on));
      if (i.run == nullptr) {
        if (on == 0) {
          pc += 16;
        } else if (on == group && i.opcode == "BRA" && i.operands.size() == 1) {
          pc = i.target;
        } else {
          run_control(w, i, group, on);
          break;
        }
      } else {
        if (on != 0) i.run(w, i, on);
        pc += 16;
      }
      if (pc >= others) {
        move(w, group, pc);
        break;
      }
    }
  }
}

}  // namespace sass
