// Bits, bytes, predicates, and choices between two numbers.
#include "handlers.h"

namespace sass {
namespace {

bool is_predicate(const Operand& o) {
  return o.kind == Kind::kPredicate || o.kind == Kind::kUniformPredicate;
}

}  // namespace

void lop3(Warp& w, const Instruction& i, Lanes on) {
  const size_t at = is_predicate(i[0]) ? 1 : 0;
  Row a, b, c, out = {};
  integers(w, i[at + 1], a);
  integers(w, i[at + 2], b);
  integers(w, i[at + 3], c);
  const auto table = static_cast<uint32_t>(i[at + 4].bits);
  for (int k = 0; k < 8; ++k) {
    if ((table >> k & 1) == 0) continue;
    const uint32_t x = k & 4 ? 0u : ~0u, y = k & 2 ? 0u : ~0u, z = k & 1 ? 0u : ~0u;
    for (int l = 0; l < kLanes; ++l) out[l] |= (a[l] ^ x) & (b[l] ^ y) & (c[l] ^ z);
  }
  write(w, i[at], out, on);
  if (at == 1) write_predicate(w, i[0], lanes_where([&](int l) { return out[l] != 0; }), on);
}

void plop3(Warp& w, const Instruction& i, Lanes on) {
  const Lanes a = predicates(w, i[2]), b = predicates(w, i[3]), c = predicates(w, i[4]);
  for (size_t result = 0; result < 2; ++result) {
    Lanes out = 0;
    for (int k = 0; k < 8; ++k) {
      if ((i[5 + result].bits >> k & 1) == 0) continue;
      out |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
    }
    write_predicate(w, i[result], out, on);
  }
}

void sel(Warp& w, const Instruction& i, Lanes on) {
  Row a, b;
  integers(w, i[1], a);
  integers(w, i[2], b);
  const Lanes first = predicates(w, i[3]);
  for (int l = 0; l < kLanes; ++l) a[l] = first >> l & 1 ? a[l] : b[l];
  write(w, i[0], a, on);
}

void prmt(Warp& w, const Instruction& i, Lanes on) {
  Row a_, s_, b_, out;
  const uint32_t *a = raw(w, i[1], a_), *s = raw(w, i[2], s_), *b = raw(w, i[3], b_);
  for (int l = 0; l < kLanes; ++l) {
    const uint64_t bytes = static_cast<uint64_t>(b[l]) << 32 | a[l];
    out[l] = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t which = s[l] >> (4 * k) & 15;
      uint32_t byte = bytes >> (8 * (which & 7)) & 255;
      if (which & 8) byte = byte & 128 ? 255 : 0;  // its sign
      out[l] |= byte << (8 * k);
    }
  }
  write(w, i[0], out, on);
}

// Seven predicates as bits, where the mask has one.
void p2r(Warp& w, const Instruction& i, Lanes on) {
  Row rest_, out;
  const uint32_t* rest = raw(w, i[2], rest_);
  const auto mask = static_cast<uint32_t>(i[3].bits);
  for (int l = 0; l < kLanes; ++l) {
    uint32_t bits = 0;
    for (int k = 0; k < 7; ++k) bits |= (w.predicate[k] >> l & 1) << k;
    out[l] = (bits & mask) | (rest[l] & ~mask);
  }
  write(w, i[0], out, on);
}

void r2p(Warp& w, const Instruction& i, Lanes on) {
  Row scratch;
  const uint32_t* bits = raw(w, i[1], scratch);
  for (int k = 0; k < 7; ++k) {
    if ((i[2].bits >> k & 1) == 0) continue;
    const Lanes found = lanes_where([&](int l) { return (bits[l] >> k & 1) != 0; });
    w.predicate[k] = (w.predicate[k] & ~on) | (found & on);
  }
}

void mov(Warp& w, const Instruction& i, Lanes on) {
  Row scratch;
  write(w, i[0], raw(w, i[1], scratch), on);
}

void popc(Warp& w, const Instruction& i, Lanes on) {
  Row a;
  integers(w, i[1], a);
  for (uint32_t& x : a) x = static_cast<uint32_t>(std::popcount(x));
  write(w, i[0], a, on);
}

}  // namespace sass
