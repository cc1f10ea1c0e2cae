// A warp's registers, and how instructions read and write them: all lanes at a time, so that the
// compiler vectorizes what they compute.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>

#include "program.h"

namespace sass {

using Row = uint32_t[kLanes];
using Row64 = uint64_t[kLanes];
using FloatRow = float[kLanes];
using DoubleRow = double[kLanes];

struct Block;

struct Warp {
  enum State : uint8_t { kRuns, kWaitsForLanes, kWaitsForWarps, kDone };

  alignas(64) Row registers[256];  // that of RZ stays zero
  uint32_t uniform[256];
  Lanes predicate[8];  // that of PT is all ones
  bool uniform_predicate[8];
  uint32_t pc[kLanes];
  State state[kLanes];
  Lanes convergence[16][kLanes];  // of each barrier, the lanes that a lane waits for
  int waits_at[kLanes];
  int first_thread = 0, number = 0;
  Block* block = nullptr;
};

// ---- Reading -----------------------------------------------------------------------------------

const uint32_t* constant_row(Warp& w, const Operand& o, Row& scratch, int word);

inline const uint32_t* broadcast(uint32_t value, Row& to) {
  for (uint32_t& lane : to) lane = value;
  return to;
}

// The 32 bits of an operand as they are; `word` 1: the upper half of a pair.
inline const uint32_t* raw(Warp& w, const Operand& o, Row& scratch, int word = 0) {
  const bool zero = o.index == kZeroRegister;
  switch (o.kind) {
    case Kind::kRegister:
      return w.registers[zero ? kZeroRegister : o.index + word];
    case Kind::kUniform:
      return broadcast(zero ? 0 : w.uniform[o.index + word], scratch);
    case Kind::kConstant:
      return constant_row(w, o, scratch, word);
    case Kind::kImmediate:
      return broadcast(static_cast<uint32_t>(o.bits >> (32 * word)), scratch);
    default:
      problem("not a number: " + o.text);
      return broadcast(0, scratch);
  }
}

inline void integers(Warp& w, const Operand& o, Row& to) {
  Row scratch;
  const uint32_t* from = raw(w, o, scratch);
  const uint32_t flip = o.inverted ? ~0u : 0u;
  for (int l = 0; l < kLanes; ++l) {
    uint32_t x = from[l] ^ flip;
    if (o.negative) x = 0u - x;
    if (o.absolute && static_cast<int32_t>(x) < 0) x = 0u - x;
    to[l] = x;
  }
}

// A pair of registers; an immediate is extended.
inline void pairs(Warp& w, const Operand& o, Row64& to) {
  Row low, high;
  const uint32_t* a = raw(w, o, low);
  if (o.kind == Kind::kImmediate) {
    for (int l = 0; l < kLanes; ++l) {
      to[l] = static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(a[l])));
    }
  } else {
    const uint32_t* b = raw(w, o, high, 1);
    for (int l = 0; l < kLanes; ++l) to[l] = a[l] | static_cast<uint64_t>(b[l]) << 32;
  }
  if (o.inverted) {
    for (uint64_t& x : to) x = ~x;
  }
  if (o.negative) {
    for (uint64_t& x : to) x = 0 - x;
  }
}

inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.f, x) : x; }

inline void floats(Warp& w, const Operand& o, FloatRow& to, bool flush = false) {
  Row scratch;
  const uint32_t* from = raw(w, o, scratch);
  const uint32_t keep = o.absolute ? 0x7fffffffu : ~0u, flip = o.negative ? 0x80000000u : 0u;
  for (int l = 0; l < kLanes; ++l) to[l] = std::bit_cast<float>((from[l] & keep) ^ flip);
  if (flush) {
    for (float& x : to) x = flushed(x);
  }
}

inline void doubles(Warp& w, const Operand& o, DoubleRow& to) {
  Row low, high;
  const uint32_t *a = raw(w, o, low), *b = raw(w, o, high, 1);
  for (int l = 0; l < kLanes; ++l) {
    uint64_t bits = a[l] | static_cast<uint64_t>(b[l]) << 32;
    if (o.absolute) bits &= ~(uint64_t{1} << 63);
    if (o.negative) bits ^= uint64_t{1} << 63;
    to[l] = std::bit_cast<double>(bits);
  }
}

inline Lanes predicates(const Warp& w, const Operand& o) {
  Lanes p = kAllLanes;
  if (o.index != kTruePredicate) {
    p = o.kind == Kind::kPredicate ? w.predicate[o.index]
                                   : (w.uniform_predicate[o.index] ? kAllLanes : 0u);
  }
  return o.negated ? ~p : p;
}

// ---- Writing -----------------------------------------------------------------------------------

inline void write_row(Row& to, const uint32_t* values, Lanes on) {
  if (on == kAllLanes) {
    std::memcpy(to, values, sizeof(Row));
    return;
  }
  for (int l = 0; l < kLanes; ++l) to[l] = on >> l & 1 ? values[l] : to[l];
}

inline void write(Warp& w, const Operand& o, const uint32_t* values, Lanes on, int word = 0) {
  if (o.index == kZeroRegister) return;
  if (o.kind == Kind::kRegister) {
    write_row(w.registers[o.index + word], values, on);
  } else if (o.kind == Kind::kUniform) {
    w.uniform[o.index + word] = values[std::countr_zero(on)];
  } else {
    problem("not to be written: " + o.text);
  }
}

inline void write_pairs(Warp& w, const Operand& o, const uint64_t* values, Lanes on) {
  Row low, high;
  for (int l = 0; l < kLanes; ++l) {
    low[l] = static_cast<uint32_t>(values[l]);
    high[l] = static_cast<uint32_t>(values[l] >> 32);
  }
  write(w, o, low, on);
  write(w, o, high, on, 1);
}

// NaN has one pattern, as on a card.
inline void write_floats(Warp& w, const Operand& o, FloatRow& values, Lanes on,
                         bool flush = false) {
  Row bits;
  if (flush) {
    for (float& x : values) x = flushed(x);
  }
  for (int l = 0; l < kLanes; ++l) {
    bits[l] = values[l] != values[l] ? 0x7fffffffu : std::bit_cast<uint32_t>(values[l]);
  }
  write(w, o, bits, on);
}

inline void write_doubles(Warp& w, const Operand& o, const DoubleRow& values, Lanes on) {
  Row64 bits;
  for (int l = 0; l < kLanes; ++l) {
    bits[l] = values[l] != values[l] ? 0xfff8000000000000u : std::bit_cast<uint64_t>(values[l]);
  }
  write_pairs(w, o, bits, on);
}

inline void write_predicate(Warp& w, const Operand& o, Lanes values, Lanes on) {
  if (o.index == kTruePredicate) return;
  if (o.kind == Kind::kPredicate) {
    w.predicate[o.index] = (w.predicate[o.index] & ~on) | (values & on);
  } else {
    w.uniform_predicate[o.index] = (values >> std::countr_zero(on) & 1) != 0;
  }
}

template <class Test>
Lanes lanes_where(Test test) {
  Lanes found = 0;
  for (int l = 0; l < kLanes; ++l) found |= static_cast<Lanes>(test(l) ? 1 : 0) << l;
  return found;
}

// NaN is unordered: .LTU and its like hold for it, .LT and its like do not.
template <class T>
bool holds(Compare c, T a, T b) {
  switch (c) {
    case Compare::kLT:
      return a < b;
    case Compare::kEQ:
      return a == b;
    case Compare::kLE:
      return a <= b;
    case Compare::kGT:
      return a > b;
    case Compare::kNE:
      return a < b || a > b;
    case Compare::kGE:
      return a >= b;
    case Compare::kLTU:
      return !(a >= b);
    case Compare::kEQU:
      return !(a < b || a > b);
    case Compare::kLEU:
      return !(a > b);
    case Compare::kGTU:
      return !(a <= b);
    case Compare::kNEU:
      return !(a == b);
    case Compare::kGEU:
      return !(a < b);
    case Compare::kNAN:
      return a != a || b != b;
    default:
      return a == a && b == b;
  }
}

inline Lanes combined(const Instruction& i, Lanes a, Lanes b) {
  return i.combine == Combine::kAnd ? (a & b) : i.combine == Combine::kOr ? (a | b) : (a ^ b);
}

}  // namespace sass
