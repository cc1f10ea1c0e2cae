#include "handlers.h"

namespace sass {
namespace {

bool is_predicate(const Operand& o) {
  return o.kind == Kind::kPredicate || o.kind == Kind::kUniformPredicate;
}

// The predicates among the operands from `at` on, which take or give carries.
size_t skip_predicates(const Instruction& i, size_t at) {
  while (at < i.operands.size() && is_predicate(i[at])) ++at;
  return at;
}

// A term of a sum with a carry: -x is ~x + 1.
void add_term(Warp& w, const Operand& o, Row64& sum) {
  Row scratch;
  const uint32_t* x = raw(w, o, scratch);
  const uint32_t flip = o.negative || o.inverted ? ~0u : 0u;
  const uint64_t one = o.negative ? 1 : 0;
  for (int l = 0; l < kLanes; ++l) sum[l] += static_cast<uint64_t>(x[l] ^ flip) + one;
}

void low_words(const Row64& from, Row& to) {
  for (int l = 0; l < kLanes; ++l) to[l] = static_cast<uint32_t>(from[l]);
}

void add_carries(Warp& w, const Instruction& i, size_t from, Row64& sum) {
  for (size_t k = from; k < i.operands.size(); ++k) {
    const Lanes carry = predicates(w, i[k]);
    for (int l = 0; l < kLanes; ++l) sum[l] += carry >> l & 1;
  }
}

}  // namespace

void iadd3(Warp& w, const Instruction& i, Lanes on) {
  const size_t first = skip_predicates(i, 1);
  Row64 sum = {};
  for (size_t k = first; k < first + 3; ++k) add_term(w, i[k], sum);
  if (i.has(kX)) add_carries(w, i, first + 3, sum);
  Row out;
  low_words(sum, out);
  write(w, i[0], out, on);
  for (size_t k = 1; k < first; ++k) {  // the second gives what is above one
    const uint64_t above = k - 1;
    write_predicate(w, i[k], lanes_where([&](int l) { return sum[l] >> 32 > above; }), on);
  }
}

void imad(Warp& w, const Instruction& i, Lanes on) {
  const size_t first = skip_predicates(i, 1);
  const Operand &a = i[first], &b = i[first + 1], &c = i[first + 2];
  if (!i.has(kWide | kHi)) {
    Row x, y, z;
    integers(w, a, x);
    integers(w, b, y);
    integers(w, c, z);
    for (int l = 0; l < kLanes; ++l) x[l] = x[l] * y[l] + z[l];
    if (i.has(kX)) {
      const Lanes carry = predicates(w, i[first + 3]);
      for (int l = 0; l < kLanes; ++l) x[l] += carry >> l & 1;
    }
    if (first != 1) problem("a carry of " + i.text);
    write(w, i[0], x, on);
    return;
  }
  Row x_, y_;
  const uint32_t *x = raw(w, a, x_), *y = raw(w, b, y_);
  Row64 product, term;
  if (i.has(kU32)) {
    for (int l = 0; l < kLanes; ++l) product[l] = static_cast<uint64_t>(x[l]) * y[l];
  } else {
    for (int l = 0; l < kLanes; ++l) {
      product[l] = static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(x[l])) *
                                         static_cast<int32_t>(y[l]));
    }
  }
  if (a.negative != b.negative) {
    for (uint64_t& p : product) p = 0 - p;
  }
  pairs(w, c, term);
  if (c.kind == Kind::kImmediate && i.has(kU32)) {
    for (uint64_t& t : term) t = static_cast<uint32_t>(c.bits);
  }
  const Lanes carry = i.has(kX) ? predicates(w, i[first + 3]) : 0;
  Lanes over = 0;
  Row64 sum;
  for (int l = 0; l < kLanes; ++l) {
    const unsigned __int128 wide =
        static_cast<unsigned __int128>(product[l]) + term[l] + (carry >> l & 1);
    sum[l] = static_cast<uint64_t>(wide);
    over |= static_cast<Lanes>(wide >> 64 != 0 ? 1 : 0) << l;
  }
  if (i.has(kHi)) {
    Row out;
    for (int l = 0; l < kLanes; ++l) out[l] = static_cast<uint32_t>(sum[l] >> 32);
    write(w, i[0], out, on);
  } else {
    write_pairs(w, i[0], sum, on);
  }
  if (first > 1) write_predicate(w, i[1], over, on);
}

void isetp(Warp& w, const Instruction& i, Lanes on) {
  Row a, b;
  integers(w, i[2], a);
  integers(w, i[3], b);
  Lanes found;
  const auto compared = [&](Compare c) {
    if (i.has(kU32)) return lanes_where([&](int l) { return holds(c, a[l], b[l]); });
    return lanes_where(
        [&](int l) { return holds(c, static_cast<int32_t>(a[l]), static_cast<int32_t>(b[l])); });
  };
  if (i.has(kEx)) {  // of the low halves it is known already
    const Lanes low = predicates(w, i[5]), equal = compared(Compare::kEQ);
    switch (i.compare) {
      case Compare::kLT:
      case Compare::kLE:
        found = compared(Compare::kLT) | (equal & low);
        break;
      case Compare::kGT:
      case Compare::kGE:
        found = compared(Compare::kGT) | (equal & low);
        break;
      case Compare::kEQ:
        found = equal & low;
        break;
      default:
        found = ~equal | low;
    }
  } else {
    found = compared(i.compare);
  }
  const Lanes other = predicates(w, i[4]);
  write_predicate(w, i[0], combined(i, found, other), on);
  write_predicate(w, i[1], combined(i, ~found, other), on);
}

void lea(Warp& w, const Instruction& i, Lanes on) {
  const size_t first = skip_predicates(i, 1);
  const Operand &a = i[first], &b = i[first + 1];
  Row a_, b_, high_;
  const uint32_t *x = raw(w, a, a_), *y = raw(w, b, b_);
  Row64 sum = {};
  const bool has_high = i.has(kHi) && !i.has(kExtended);
  const size_t shift_at = first + (has_high ? 3 : 2);
  const auto shift = static_cast<int>(i[shift_at].bits);
  if (i.has(kHi)) {
    const uint32_t* high = has_high ? raw(w, i[first + 2], high_) : x;
    for (int l = 0; l < kLanes; ++l) {
      const uint32_t sign = static_cast<int32_t>(x[l]) < 0 ? ~0u : 0u;
      uint64_t wide = static_cast<uint64_t>(has_high ? high[l] : sign) << 32 | x[l];
      if (a.negative) wide = 0 - wide;
      if (a.inverted) wide = ~wide;
      sum[l] = static_cast<uint32_t>(wide << shift >> 32);
    }
  } else {
    for (int l = 0; l < kLanes; ++l) {
      const uint32_t shifted = x[l] << shift;
      sum[l] = a.negative ? static_cast<uint64_t>(~shifted) + 1 : shifted;
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    sum[l] += b.negative ? static_cast<uint64_t>(~y[l]) + 1 : b.inverted ? ~y[l] : y[l];
  }
  if (i.has(kX)) add_carries(w, i, shift_at + 1, sum);
  Row out;
  low_words(sum, out);
  write(w, i[0], out, on);
  if (first > 1) {
    write_predicate(w, i[1], lanes_where([&](int l) { return sum[l] >> 32 != 0; }), on);
  }
}

void shf(Warp& w, const Instruction& i, Lanes on) {
  Row low_, by_, high_;
  const uint32_t *low = raw(w, i[1], low_), *by = raw(w, i[2], by_), *high = raw(w, i[3], high_);
  const bool wide = i.has(kU64 | kS64), is_signed = i.has(kS32 | kS64);
  if (wide && is_signed && i.has(kRight) && i.has(kHi)) problem("not known: " + i.text);
  Row out;
  for (int l = 0; l < kLanes; ++l) {
    const uint32_t most = wide ? 64 : 32;
    const uint32_t s = i.has(kWrap) ? by[l] & (most - 1) : by[l] > most ? most : by[l];
    const uint64_t both = static_cast<uint64_t>(high[l]) << 32 | low[l];
    if (i.has(kLeft)) {
      out[l] = i.has(kHi) ? (s >= 64 ? 0 : static_cast<uint32_t>(both << s >> 32))
                          : (s >= 32 ? 0 : low[l] << s);
    } else if (!is_signed) {
      const uint64_t shifted = s >= 64 ? 0 : both >> s;
      out[l] = static_cast<uint32_t>(i.has(kHi) ? shifted >> 32 : shifted);
    } else {
      const int64_t shifted = static_cast<int64_t>(both) >> (s > 63 ? 63 : s);
      out[l] = static_cast<uint32_t>(i.has(kHi) ? shifted >> 32 : shifted);
    }
  }
  write(w, i[0], out, on);
}

void iabs(Warp& w, const Instruction& i, Lanes on) {
  Row a;
  integers(w, i[1], a);
  for (uint32_t& x : a) x = static_cast<int32_t>(x) < 0 ? 0u - x : x;
  write(w, i[0], a, on);
}

void viadd(Warp& w, const Instruction& i, Lanes on) {
  Row a, b;
  integers(w, i[1], a);
  integers(w, i[2], b);
  for (int l = 0; l < kLanes; ++l) a[l] += b[l];
  write(w, i[0], a, on);
}

namespace {

// The lesser where the predicate holds, else the greater.
void choose(const Warp& w, const Instruction& i, Row& a, const Row& b, const Operand& least) {
  const Lanes lesser = predicates(w, least);
  for (int l = 0; l < kLanes; ++l) {
    const bool below =
        i.has(kU32) ? a[l] < b[l] : static_cast<int32_t>(a[l]) < static_cast<int32_t>(b[l]);
    a[l] = below == ((lesser >> l & 1) != 0) ? a[l] : b[l];
  }
}

}  // namespace

// Of the operands before the predicate.
void vimnmx(Warp& w, const Instruction& i, Lanes on) {
  const size_t last = i.operands.size() - 1;
  Row least, next;
  integers(w, i[1], least);
  for (size_t n = 2; n < last; ++n) {
    integers(w, i[n], next);
    choose(w, i, least, next, i[last]);
  }
  write(w, i[0], least, on);
}

void viaddmnmx(Warp& w, const Instruction& i, Lanes on) {
  Row a, b, c;
  integers(w, i[1], a);
  integers(w, i[2], b);
  integers(w, i[3], c);
  for (int l = 0; l < kLanes; ++l) a[l] += b[l];
  choose(w, i, a, c, i[4]);
  write(w, i[0], a, on);
}

void nop(Warp&, const Instruction&, Lanes) {}

}  // namespace sass
