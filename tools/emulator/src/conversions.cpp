// Numbers of one kind as numbers of another.
#include "handlers.h"
#include "rounding.h"

namespace sass {
namespace {

uint32_t bfloat16_bits(float x) {
  const auto u = std::bit_cast<uint32_t>(x);
  return x != x ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1)) >> 16;
}

float float_of_float16(uint32_t h) {
  const int exponent = static_cast<int>(h >> 10 & 31);
  const auto fraction = static_cast<double>(h & 1023);
  double size =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024., exponent - 25);
  if (exponent == 31) size = fraction == 0 ? HUGE_VAL : std::nan("");
  return static_cast<float>(h & 0x8000 ? -size : size);
}

}  // namespace

uint32_t float16_bits(float x) {
  if (x != x) return 0x7fffu;
  const uint32_t sign = std::signbit(x) ? 0x8000u : 0u;
  const double size = std::fabs(static_cast<double>(x));
  if (size == 0.) return sign;
  if (size >= 65520.) return sign | 0x7c00u;
  int exponent = 0;
  std::frexp(size, &exponent);
  exponent = exponent < -13 ? -13 : exponent;  // subnormal below 2^-14
  const auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, 11 - exponent)));
  // A carry goes into the exponent by itself.
  return sign | (units + (static_cast<uint32_t>(exponent + 13) << 10));
}

void f2f(Warp& w, const Instruction& i, Lanes on) {
  const Rounding rounding(i);
  if (i.has(kF64)) {
    FloatRow a;
    DoubleRow out;
    floats(w, i[1], a, i.has(kFlush));
    for (int l = 0; l < kLanes; ++l) out[l] = a[l];
    write_doubles(w, i[0], out, on);
  } else if (i.has(kF16)) {
    FloatRow a;
    Row out;
    floats(w, i[1], a);
    for (int l = 0; l < kLanes; ++l) out[l] = float16_bits(a[l]);
    write(w, i[0], out, on);
  } else {
    DoubleRow a;
    FloatRow out;
    doubles(w, i[1], a);
    opaque(a);
    for (int l = 0; l < kLanes; ++l) out[l] = static_cast<float>(a[l]);
    opaque(out);
    write_floats(w, i[0], out, on, i.has(kFlush));
  }
}

// Two floats as halves of a word.
void f2fp(Warp& w, const Instruction& i, Lanes on) {
  if (!i.has(kBF16 | kF16)) problem("not known: " + i.text);
  FloatRow a, b;
  Row out;
  floats(w, i[1], a);
  floats(w, i[2], b);
  const auto half = i.has(kBF16) ? bfloat16_bits : float16_bits;
  for (int l = 0; l < kLanes; ++l) out[l] = half(a[l]) << 16 | half(b[l]);
  write(w, i[0], out, on);
}

// A half of a word as a float: HADD2.F32 R0, -RZ, R1.H0_H0
void hadd2(Warp& w, const Instruction& i, Lanes on) {
  if (!i.has(kF32) || i[1].index != kZeroRegister) problem("not known: " + i.text);
  Row scratch;
  const uint32_t* from = raw(w, i[2], scratch);
  FloatRow out;
  for (int l = 0; l < kLanes; ++l) {
    out[l] = float_of_float16(i[2].part == 1 ? from[l] >> 16 : from[l] & 0xffffu);
  }
  write_floats(w, i[0], out, on);
}

void f2i(Warp& w, const Instruction& i, Lanes on) {
  DoubleRow x;
  if (i.has(kF64)) {
    doubles(w, i[1], x);
  } else {
    FloatRow a;
    floats(w, i[1], a, i.has(kFlush));
    for (int l = 0; l < kLanes; ++l) x[l] = a[l];
  }
  const bool wide = i.has(kU64 | kS64), is_unsigned = i.has(kU32 | kU64);
  const double high = std::ldexp(1., (wide ? 64 : 32) - (is_unsigned ? 0 : 1));
  const double low = is_unsigned ? 0. : -high;
  Row64 out;
  for (int l = 0; l < kLanes; ++l) {
    const double r = rounded_to_integer(i, x[l]);
    if (r != r) {
      out[l] = wide ? uint64_t{1} << 63 : 0;
    } else if (r >= high) {
      out[l] = is_unsigned ? ~uint64_t{0} : (uint64_t{1} << (wide ? 63 : 31)) - 1;
    } else if (r < low) {
      out[l] = is_unsigned ? 0 : uint64_t{1} << (wide ? 63 : 31);
    } else {
      out[l] =
          is_unsigned ? static_cast<uint64_t>(r) : static_cast<uint64_t>(static_cast<int64_t>(r));
    }
  }
  if (wide) {
    write_pairs(w, i[0], out, on);
    return;
  }
  Row words;
  for (int l = 0; l < kLanes; ++l) words[l] = static_cast<uint32_t>(out[l]);
  write(w, i[0], words, on);
}

void i2f(Warp& w, const Instruction& i, Lanes on) {
  Row64 x;
  bool is_unsigned = i.has(kU64);
  if (i.has(kU64 | kS64)) {
    pairs(w, i[1], x);
  } else {
    Row a;
    integers(w, i[1], a);
    const int part = i[1].part < 0 ? 0 : i[1].part;
    for (int l = 0; l < kLanes; ++l) {
      const uint32_t byte = a[l] >> (8 * part) & 0xffu, half = a[l] >> (16 * part) & 0xffffu;
      int64_t v = i.has(kU32) ? int64_t{a[l]} : int64_t{static_cast<int32_t>(a[l])};
      if (i.has(kU8)) v = byte;
      if (i.has(kS8)) v = static_cast<int8_t>(byte);
      if (i.has(kU16)) v = half;
      if (i.has(kS16)) v = static_cast<int16_t>(half);
      x[l] = static_cast<uint64_t>(v);
    }
    is_unsigned = false;  // they are small
  }
  const Rounding rounding(i);
  opaque(x);
  if (i.has(kF64)) {
    DoubleRow out;
    for (int l = 0; l < kLanes; ++l) {
      out[l] =
          is_unsigned ? static_cast<double>(x[l]) : static_cast<double>(static_cast<int64_t>(x[l]));
    }
    opaque(out);
    write_doubles(w, i[0], out, on);
  } else {
    FloatRow out;
    for (int l = 0; l < kLanes; ++l) {
      out[l] =
          is_unsigned ? static_cast<float>(x[l]) : static_cast<float>(static_cast<int64_t>(x[l]));
    }
    opaque(out);
    write_floats(w, i[0], out, on);
  }
}

}  // namespace sass
