// Machine code as the emulator holds it: what `cuobjdump -sass` prints, decoded once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sass {

constexpr int kLanes = 32;
constexpr int kZeroRegister = 255;  // RZ and URZ
constexpr int kTruePredicate = 7;   // PT and UPT
constexpr uint32_t kAllLanes = 0xffffffffu;

using Lanes = uint32_t;  // a bit for each lane of a warp

enum class Kind : uint8_t {
  kNone,
  kRegister,
  kUniform,  // a register that all lanes of a warp share
  kImmediate,
  kConstant,  // c[bank][offset + registers]
  kPredicate,
  kUniformPredicate,
  kMemory,  // [registers + offset]
  kConvergence,
  kSpecial,
};

struct Operand {
  Kind kind = Kind::kNone;
  bool negative = false, inverted = false, absolute = false;  // -x, ~x, |x|
  bool negated = false;                                       // !p
  int index = 0;
  int part = -1;          // of a register: byte B0 ... B3, or half H0, H1
  bool is_float = false;  // an immediate that was written as one
  double number = 0;
  uint64_t bits = 0;
  uint32_t bank = 0;
  int64_t offset = 0;
  int base = -1, uniform_base = -1;
  bool wide_base = false;  // R2.64: a pair
  std::string text;
};

enum Modifier : uint32_t {
  kU32 = 1u << 0,
  kX = 1u << 1,  // adds the carry
  kHi = 1u << 2,
  kWide = 1u << 3,
  kEx = 1u << 4,  // a comparison of high halves, after that of the low ones
  kS32 = 1u << 5,
  kU64 = 1u << 6,
  kS64 = 1u << 7,
  kLeft = 1u << 8,
  kRight = 1u << 9,
  k64 = 1u << 10,
  k128 = 1u << 11,
  kU8 = 1u << 12,
  kS8 = 1u << 13,
  kU16 = 1u << 14,
  kS16 = 1u << 15,
  kNaN = 1u << 16,
  kFlush = 1u << 17,  // .FTZ: subnormal numbers are zero
  kDown = 1u << 18,   // .RM
  kUp = 1u << 19,     // .RP
  kToZero = 1u << 20,
  kTrunc = 1u << 21,
  kFloor = 1u << 22,
  kCeil = 1u << 23,
  kSaturate = 1u << 24,
  kWrap = 1u << 25,
  kF64 = 1u << 26,
  kF32 = 1u << 27,
  kF16 = 1u << 28,
  kBF16 = 1u << 29,
  kExtended = 1u << 30,  // .SX32: the upper half is the sign of the lower
};

enum class Compare : uint8_t {
  kLT,
  kEQ,
  kLE,
  kGT,
  kNE,
  kGE,
  kLTU,
  kEQU,
  kLEU,
  kGTU,
  kNEU,
  kGEU,
  kNAN,
  kNUM,
  kMIN,  // whether the first is the lesser, and whether both are NaN
  kMAX,
};
enum class Combine : uint8_t { kAnd, kOr, kXor };

// What runs an instruction, by how many it can take in a cycle: see tools/emulator/model.py.
enum class Pipe : uint8_t {
  kAlu,
  kFma,
  kFmaHeavy,  // products of integers, which half of the FMA pipe does
  kFp64,
  kXu,  // special functions and conversions
  kLsu,
  kUniform,
  kControl,
};

struct Warp;
struct Instruction;
using Handler = void (*)(Warp&, const Instruction&, Lanes on);

struct Instruction {
  uint32_t pc = 0;
  Handler run = nullptr;  // none: control flow, in block.cpp
  Operand guard;          // @P0, or none
  std::vector<Operand> operands;
  uint32_t modifiers = 0;
  Compare compare = Compare::kLT;
  Combine combine = Combine::kAnd;
  std::string function;  // of MUFU
  uint32_t target = 0;
  int32_t displacement = 0;  // of indirect branches
  Pipe pipe = Pipe::kAlu;
  std::string opcode, text;
  // What was counted: warps, active lanes; of memory, transfers of 32 bytes and rounds of banks.
  mutable uint64_t warps = 0, lanes = 0, sectors = 0, rounds = 0;

  bool has(uint32_t some) const { return (modifiers & some) != 0; }
  const Operand& operator[](size_t i) const { return operands[i]; }
};

struct Parameter {
  int offset, size;
};

struct Kernel {
  std::string name, title;  // mangled, and what c++filt made of it
  int architecture = 90, registers = 0, shared_bytes = 0;
  std::vector<Parameter> parameters;
  std::vector<uint32_t> constants[5];  // by bank
  std::vector<Instruction> code;
  uint64_t launches = 0, blocks = 0, threads = 0;
  uint64_t grid = 0;  // blocks of the last launch, of which some may have been left out

  int first_parameter() const {
    return architecture >= 100 ? 0x380 : architecture >= 90 ? 0x210 : 0x160;
  }
};

// parse.cpp. An operand or a modifier that is not known is a problem that names it.
Instruction parse_instruction(uint32_t pc, std::string_view text);

// table.cpp. Sets `run`, `pipe`; an unknown opcode is a problem that names it.
void resolve(Instruction& instruction);

// Kernels by their mangled names, from files that tools/emulator/extract.py wrote. Decoded when
// they are first asked for.
Kernel& find_kernel(const std::string& name);
std::vector<Kernel*> launched_kernels();

// What a card would not do, or not reliably: counted, printed once per kind, and failed on by the
// tests.
void problem(const std::string& what);
uint64_t problem_count();
void print_problems();

}  // namespace sass
