// -ffp-contract=off: what is fused is an instruction of its own.
#include "handlers.h"
#include "rounding.h"

namespace sass {
namespace {

void saturate(const Instruction& i, FloatRow& x) {
  if (!i.has(kSaturate)) return;
  for (float& v : x) v = v > 0.f ? (v < 1.f ? v : 1.f) : 0.f;
}

// d = a op b, rounded as the instruction says.
template <class Operation>
void combine_floats(Warp& w, const Instruction& i, Lanes on, Operation operation) {
  const Rounding rounding(i);
  FloatRow a, b;
  floats(w, i[1], a, i.has(kFlush));
  floats(w, i[2], b, i.has(kFlush));
  opaque(a);
  for (int l = 0; l < kLanes; ++l) a[l] = operation(a[l], b[l]);
  opaque(a);
  saturate(i, a);
  write_floats(w, i[0], a, on, i.has(kFlush));
}

template <class Operation>
void combine_doubles(Warp& w, const Instruction& i, Lanes on, Operation operation) {
  const Rounding rounding(i);
  DoubleRow a, b;
  doubles(w, i[1], a);
  doubles(w, i[2], b);
  opaque(a);
  for (int l = 0; l < kLanes; ++l) a[l] = operation(a[l], b[l]);
  opaque(a);
  write_doubles(w, i[0], a, on);
}

template <class T>
void set_predicates(Warp& w, const Instruction& i, Lanes on, const T (&a)[kLanes],
                    const T (&b)[kLanes]) {
  const Lanes found = lanes_where([&](int l) { return holds(i.compare, a[l], b[l]); });
  const Lanes other = predicates(w, i[4]);
  write_predicate(w, i[0], combined(i, found, other), on);
  write_predicate(w, i[1], combined(i, ~found, other), on);
}

bool disturbed = false;

double special_function(const Instruction& i, double x) {
  const std::string& f = i.function;
  if (f == "RCP") return 1. / x;
  if (f == "RSQ") return 1. / std::sqrt(x);
  if (f == "SQRT") return std::sqrt(x);
  if (f == "EX2") return std::exp2(x);
  if (f == "LG2") return std::log2(x);
  if (f == "SIN") return std::sin(x * 6.283185307179586);
  if (f == "COS") return std::cos(x * 6.283185307179586);
  if (f == "TANH") return std::tanh(x);
  problem("not known: " + i.text);
  return 0;
}

// By a hash of the argument: the same one always gives the same result, as a table would.
float moved(float x, float y) {
  const int step = static_cast<int>(std::bit_cast<uint32_t>(x) * 2654435761u >> 30) - 1;
  if (step == 2 || !std::isnormal(y)) return y;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(y) + static_cast<uint32_t>(step));
}

}  // namespace

void disturb_special_functions(bool on) { disturbed = on; }

void fadd(Warp& w, const Instruction& i, Lanes on) {
  combine_floats(w, i, on, [](float a, float b) { return a + b; });
}

void fmul(Warp& w, const Instruction& i, Lanes on) {
  combine_floats(w, i, on, [](float a, float b) { return a * b; });
}

void ffma(Warp& w, const Instruction& i, Lanes on) {
  const Rounding rounding(i);
  FloatRow a, b, c;
  floats(w, i[1], a, i.has(kFlush));
  floats(w, i[2], b, i.has(kFlush));
  floats(w, i[3], c, i.has(kFlush));
  opaque(a);
  for (int l = 0; l < kLanes; ++l) a[l] = std::fma(a[l], b[l], c[l]);
  opaque(a);
  saturate(i, a);
  write_floats(w, i[0], a, on, i.has(kFlush));
}

void fsel(Warp& w, const Instruction& i, Lanes on) {
  FloatRow a, b;
  floats(w, i[1], a);
  floats(w, i[2], b);
  const Lanes first = predicates(w, i[3]);
  Row out;
  for (int l = 0; l < kLanes; ++l) {
    out[l] = std::bit_cast<uint32_t>(first >> l & 1 ? a[l] : b[l]);
  }
  write(w, i[0], out, on);
}

void fmnmx(Warp& w, const Instruction& i, Lanes on) {
  FloatRow a, b;
  floats(w, i[1], a, i.has(kFlush));
  floats(w, i[2], b, i.has(kFlush));
  const Lanes lesser = predicates(w, i[3]);
  for (int l = 0; l < kLanes; ++l) {
    const bool least = (lesser >> l & 1) != 0;
    if (a[l] != a[l] || b[l] != b[l]) {
      a[l] = i.has(kNaN) ? NAN : a[l] != a[l] ? b[l] : a[l];
    } else if (a[l] == b[l]) {
      a[l] = least == std::signbit(a[l]) ? a[l] : b[l];
    } else {
      a[l] = (a[l] < b[l]) == least ? a[l] : b[l];
    }
  }
  write_floats(w, i[0], a, on, i.has(kFlush));
}

void fsetp(Warp& w, const Instruction& i, Lanes on) {
  FloatRow a, b;
  floats(w, i[2], a, i.has(kFlush));
  floats(w, i[3], b, i.has(kFlush));
  set_predicates(w, i, on, a, b);
}

void fset(Warp& w, const Instruction& i, Lanes on) {
  FloatRow a, b;
  floats(w, i[1], a, i.has(kFlush));
  floats(w, i[2], b, i.has(kFlush));
  const Lanes found = lanes_where([&](int l) { return holds(i.compare, a[l], b[l]); });
  const Lanes both = combined(i, found, predicates(w, i[3]));
  for (int l = 0; l < kLanes; ++l) a[l] = (both >> l & 1) != 0 ? 1.f : 0.f;
  write_floats(w, i[0], a, on);
}

// Whether a quotient needs the slow path: exponents at the ends of the range.
void fchk(Warp& w, const Instruction& i, Lanes on) {
  Row a_, b_;
  const uint32_t *a = raw(w, i[1], a_), *b = raw(w, i[2], b_);
  write_predicate(w, i[0], lanes_where([&](int l) {
                    const int x = static_cast<int>(a[l] >> 23 & 255);
                    const int y = static_cast<int>(b[l] >> 23 & 255);
                    return y == 0 || y >= 253 || x == 255 || x < 24 || x - y >= 126 ||
                           x - y <= -125;
                  }),
                  on);
}

void mufu(Warp& w, const Instruction& i, Lanes on) {
  Row scratch, out;
  if (i.function.ends_with("64H")) {  // of the upper half of a double, or one that is written out
    const bool written = i[1].kind == Kind::kImmediate;
    const uint32_t* high = raw(w, i[1], scratch);
    for (int l = 0; l < kLanes; ++l) {
      const double x =
          written ? i[1].number : std::bit_cast<double>(static_cast<uint64_t>(high[l]) << 32);
      const double y = i.function == "RCP64H" ? 1. / x : 1. / std::sqrt(x);
      out[l] = static_cast<uint32_t>(std::bit_cast<uint64_t>(y) >> 32);
    }
    write(w, i[0], out, on);
    return;
  }
  FloatRow x;
  floats(w, i[1], x, true);  // of a subnormal number it takes 0, whatever the mode
  for (int l = 0; l < kLanes; ++l) {
    if ((on >> l & 1) == 0) continue;
    auto y = static_cast<float>(special_function(i, x[l]));
    x[l] = flushed(disturbed ? moved(x[l], y) : y);
  }
  write_floats(w, i[0], x, on);
}

// Only as a move of immediates, and as a product and sum of halves of bfloat16 by immediates.
void hfma2(Warp& w, const Instruction& i, Lanes on) {
  if (i[1].index != kZeroRegister || i[2].index != kZeroRegister || i[3].kind != Kind::kImmediate) {
    problem("not known: " + i.text);
  }
  const bool negative_zero = i[1].negative != i[2].negative;
  const auto half = [&](double v) {
    const uint32_t bits = float16_bits(static_cast<float>(v));
    return bits == 0x8000u && !negative_zero ? 0u : bits;
  };
  Row scratch;
  write(w, i[0], broadcast(half(i[3].number) << 16 | half(i[4].number), scratch), on);
}

void frnd(Warp& w, const Instruction& i, Lanes on) {
  if (i.has(kF64)) {
    DoubleRow a;
    doubles(w, i[1], a);
    for (double& x : a) x = rounded_to_integer(i, x);
    write_doubles(w, i[0], a, on);
    return;
  }
  FloatRow a;
  floats(w, i[1], a);
  for (float& x : a) x = rounded_to_integer(i, x);
  write_floats(w, i[0], a, on);
}

void dadd(Warp& w, const Instruction& i, Lanes on) {
  combine_doubles(w, i, on, [](double a, double b) { return a + b; });
}

void dmul(Warp& w, const Instruction& i, Lanes on) {
  combine_doubles(w, i, on, [](double a, double b) { return a * b; });
}

void dfma(Warp& w, const Instruction& i, Lanes on) {
  const Rounding rounding(i);
  DoubleRow a, b, c;
  doubles(w, i[1], a);
  doubles(w, i[2], b);
  doubles(w, i[3], c);
  opaque(a);
  for (int l = 0; l < kLanes; ++l) a[l] = std::fma(a[l], b[l], c[l]);
  opaque(a);
  write_doubles(w, i[0], a, on);
}

void dmnmx(Warp& w, const Instruction& i, Lanes on) {
  DoubleRow a, b;
  doubles(w, i[1], a);
  doubles(w, i[2], b);
  const Lanes lesser = predicates(w, i[3]);
  for (int l = 0; l < kLanes; ++l) {
    const bool least = (lesser >> l & 1) != 0;
    a[l] = a[l] != a[l] ? b[l] : b[l] != b[l] ? a[l] : (a[l] < b[l]) == least ? a[l] : b[l];
  }
  write_doubles(w, i[0], a, on);
}

void dsetp(Warp& w, const Instruction& i, Lanes on) {
  DoubleRow a, b;
  doubles(w, i[2], a);
  doubles(w, i[3], b);
  if (i.compare != Compare::kMIN && i.compare != Compare::kMAX) {
    return set_predicates(w, i, on, a, b);
  }
  const bool least = i.compare == Compare::kMIN;
  const Lanes first = lanes_where([&](int l) {
    if (a[l] == b[l]) return std::signbit(a[l]) == least;
    return b[l] != b[l] || (least ? a[l] < b[l] : a[l] > b[l]);
  });
  write_predicate(w, i[0], first, on);
  write_predicate(w, i[1], lanes_where([&](int l) { return a[l] != a[l] && b[l] != b[l]; }), on);
}

}  // namespace sass
