// From the text of an instruction, such as "@!P0 IADD3.X R2, P1, R4, c[0x0][0x20], ~RZ, P2", to its
// operands and modifiers.
#include <cctype>
#include <cstdlib>
#include <limits>
#include <map>

#include "program.h"

namespace sass {
namespace {

const std::map<std::string_view, uint32_t> kModifiers = {
    {"U32", kU32},      {"X", kX},           {"HI", kHi},       {"WIDE", kWide}, {"EX", kEx},
    {"S32", kS32},      {"U64", kU64},       {"S64", kS64},     {"L", kLeft},    {"R", kRight},
    {"64", k64},        {"128", k128},       {"U8", kU8},       {"S8", kS8},     {"U16", kU16},
    {"S16", kS16},      {"NAN", kNaN},       {"FTZ", kFlush},   {"RM", kDown},   {"RP", kUp},
    {"RZ", kToZero},    {"TRUNC", kTrunc},   {"FLOOR", kFloor}, {"CEIL", kCeil}, {"SAT", kSaturate},
    {"W", kWrap},       {"F64", kF64},       {"F32", kF32},     {"F16", kF16},   {"BF16", kBF16},
    {"BF16_V2", kBF16}, {"SX32", kExtended},
};

// What changes nothing that is emulated: hints, names of operations that the opcode has already.
const std::map<std::string_view, int> kWithoutEffect = {
    {"MOV", 0},      {"SHL", 0},    {"IADD", 0},    {"LUT", 0},   {"MMA", 0},
    {"E", 0},        {"REL", 0},    {"NOINC", 0},   {"NODEC", 0}, {"SYNC", 0},
    {"ALL", 0},      {"NTZ", 0},    {"BFLY", 0},    {"IDX", 0},   {"ALIGNED", 0},
    {"CONSTANT", 0}, {"BF", 0},     {"PACK_AB", 0}, {"ROUND", 0}, {"DEFER_BLOCKING", 0},
    {"RN", 0},       {"STRONG", 0}, {"GPU", 0},     {"DIV", 0},   {"COLLECTIVE", 0},
    {"CONV", 0},     {"PR", 0},     {"32", 0},      {"B32", 0},   {"EF", 0},
    {"EL", 0},
};

const std::map<std::string_view, Compare> kComparisons = {
    {"LT", Compare::kLT},   {"EQ", Compare::kEQ},   {"LE", Compare::kLE},   {"GT", Compare::kGT},
    {"NE", Compare::kNE},   {"GE", Compare::kGE},   {"LTU", Compare::kLTU}, {"EQU", Compare::kEQU},
    {"LEU", Compare::kLEU}, {"GTU", Compare::kGTU}, {"NEU", Compare::kNEU}, {"GEU", Compare::kGEU},
    {"NAN", Compare::kNAN}, {"NUM", Compare::kNUM}, {"MIN", Compare::kMIN}, {"MAX", Compare::kMAX},
};
const std::map<std::string_view, Combine> kCombinations = {
    {"AND", Combine::kAnd}, {"OR", Combine::kOr}, {"XOR", Combine::kXor}};

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.back()))) s.remove_suffix(1);
  return s;
}

std::vector<std::string_view> split(std::string_view s, char at) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t start = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    depth += s[i] == '[' ? 1 : s[i] == ']' ? -1 : 0;
    if (s[i] == at && depth == 0) {
      parts.push_back(trimmed(s.substr(start, i - start)));
      start = i + 1;
    }
  }
  if (!trimmed(s.substr(start)).empty()) parts.push_back(trimmed(s.substr(start)));
  return parts;
}

int64_t hexadecimal(std::string_view s) {
  const bool negative = !s.empty() && s[0] == '-';
  const auto size =
      static_cast<int64_t>(std::strtoull(std::string(s.substr(negative)).c_str(), nullptr, 16));
  return negative ? -size : size;
}

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

bool parse_number(std::string_view s, Operand& o) {
  const bool negative = s[0] == '-';
  const std::string_view size = s[0] == '-' || s[0] == '+' ? s.substr(1) : s;
  if (size == "INF") {
    o.is_float = true;
    o.number = std::numeric_limits<double>::infinity();
    if (negative) o.number = -o.number;
  } else if (size.starts_with("0x")) {
    o.bits = static_cast<uint64_t>(hexadecimal(s));
  } else if (!size.empty() && (is_digit(size[0]) || size[0] == '.')) {
    o.is_float = true;
    o.number = std::strtod(std::string(s).c_str(), nullptr);
  } else {
    return false;
  }
  o.kind = Kind::kImmediate;
  return true;
}

// "R4.64+0x10", "UR4+0x10", "R0+0x54", "0x210"
void parse_address(std::string_view s, Operand& o) {
  for (std::string_view part : split(s, '+')) {
    if (part[0] == 'R') {
      const size_t dot = part.find('.');
      if (dot != std::string_view::npos) {
        o.wide_base = part.substr(dot) == ".64";
        if (!o.wide_base) problem("an address with " + std::string(part));
      }
      if (o.base >= 0) problem("an address of two registers: " + std::string(s));
      o.base = part.starts_with("RZ") ? kZeroRegister : std::atoi(part.data() + 1);
    } else if (part[0] == 'U') {
      o.uniform_base = part == "URZ" ? kZeroRegister : std::atoi(part.data() + 2);
    } else {
      o.offset += hexadecimal(part);
    }
  }
}

void parse_suffix(std::string_view suffix, Operand& o) {
  if (suffix.size() == 2 && suffix[0] == 'B') {
    o.part = suffix[1] - '0';
  } else if (suffix == "H0" || suffix == "H0_H0") {
    o.part = 0;
  } else if (suffix == "H1" || suffix == "H1_H1") {
    o.part = 1;
  } else if (suffix != "64") {
    problem("an operand with ." + std::string(suffix));
  }
}

Operand parse_operand(std::string_view s) {
  Operand o;
  std::string text(s);
  for (size_t at; (at = text.find(".reuse")) != std::string::npos;) text.erase(at, 6);
  o.text = text;
  s = trimmed(text);
  if (parse_number(s, o)) return o;
  for (; !s.empty(); s.remove_prefix(1)) {
    if (s[0] == '-') {
      o.negative = true;
    } else if (s[0] == '~') {
      o.inverted = true;
    } else if (s[0] == '!') {
      o.negated = true;
    } else {
      break;
    }
  }
  if (s.starts_with('|')) {
    o.absolute = true;
    s = s.substr(1, s.size() - 2);
  }
  if (s.starts_with("c[")) {
    o.kind = Kind::kConstant;
    o.bank = static_cast<uint32_t>(hexadecimal(s.substr(2, s.find(']') - 2)));
    const size_t from = s.find("][") + 2;
    parse_address(s.substr(from, s.size() - from - 1), o);
    return o;
  }
  if (s.starts_with("desc[") || s.starts_with('[')) {
    const size_t from = s.starts_with('[') ? 1 : s.find("][") + 2;
    o.kind = Kind::kMemory;
    parse_address(s.substr(from, s.size() - from - 1), o);
    return o;
  }
  if (s.starts_with("SR") || s == "PR") {
    o.kind = Kind::kSpecial;
    return o;
  }
  const size_t dot = s.find('.');
  if (dot != std::string_view::npos) parse_suffix(s.substr(dot + 1), o);
  const std::string name(s.substr(0, dot));
  const auto numbered = [&](std::string_view prefix, Kind kind, int last) {
    if (!name.starts_with(prefix) || name.size() == prefix.size()) return false;
    const std::string rest = name.substr(prefix.size());
    if (rest == "Z" || rest == "T") {
      o.index = last;
    } else if (is_digit(rest[0])) {
      o.index = std::atoi(rest.c_str());
    } else {
      return false;
    }
    o.kind = kind;
    return true;
  };
  if (!numbered("UR", Kind::kUniform, kZeroRegister) &&
      !numbered("UP", Kind::kUniformPredicate, kTruePredicate) &&
      !numbered("R", Kind::kRegister, kZeroRegister) &&
      !numbered("P", Kind::kPredicate, kTruePredicate) && !numbered("B", Kind::kConvergence, 0)) {
    problem("an operand " + o.text);
  }
  return o;
}

void parse_modifier(std::string_view m, Instruction& i) {
  const bool compares = i.opcode.ends_with("SETP") || i.opcode == "FSET";
  if (compares && kComparisons.contains(m)) {
    i.compare = kComparisons.at(m);
  } else if (compares && kCombinations.contains(m)) {
    i.combine = kCombinations.at(m);
  } else if (i.opcode == "MUFU" && i.function.empty()) {
    i.function = m;
  } else if (kModifiers.contains(m)) {
    // "F2F.F64.F32": the first is what it becomes.
    const uint32_t bit = kModifiers.at(m);
    const bool second = (bit & (kF64 | kF32 | kF16)) != 0 && i.has(kF64 | kF32 | kF16 | kBF16);
    if (!second) i.modifiers |= bit;
  } else if (!kWithoutEffect.contains(m)) {
    problem("." + std::string(m) + " in " + i.text);
  }
}

}  // namespace

Instruction parse_instruction(uint32_t pc, std::string_view text) {
  Instruction i;
  i.pc = pc;
  text = trimmed(text);
  i.text = std::string(text);
  if (text.starts_with('@')) {
    const size_t space = text.find(' ');
    i.guard = parse_operand(text.substr(1, space - 1));
    text = trimmed(text.substr(space));
  }
  const size_t space = text.find(' ');
  const auto names = split(text.substr(0, space), '.');
  const std::string_view rest =
      space == std::string_view::npos ? std::string_view() : trimmed(text.substr(space));
  i.opcode = std::string(names[0]);
  for (size_t k = 1; k < names.size(); ++k) parse_modifier(names[k], i);
  if (i.opcode == "RET" || i.opcode == "BRX" || i.opcode == "BRXU") {  // "R2 0x0"
    const size_t last = rest.rfind(' ');
    i.operands.push_back(parse_operand(rest.substr(0, last)));
    i.displacement = static_cast<int32_t>(hexadecimal(trimmed(rest.substr(last))));
  } else {
    for (std::string_view part : split(rest, ',')) i.operands.push_back(parse_operand(part));
    if (i.opcode == "BRA" || i.opcode == "BSSY" || i.opcode == "CALL") {
      i.target = static_cast<uint32_t>(i.operands.back().bits);
    }
  }
  resolve(i);
  return i;
}

}  // namespace sass
