// The instructions that the emulator knows: what each does, and the pipe that runs it. A name with
// a leading U is the same on registers that the lanes of a warp share.
#include <map>

#include "handlers.h"

namespace sass {
namespace {

struct Entry {
  Handler run;
  Pipe pipe;
  const char* meaning;  // of d, a, b, c: the destination and the sources, in their order
};

const std::map<std::string_view, Entry> kTable = {
    // Integers
    {"IADD3", {iadd3, Pipe::kAlu, "d = a + b + c; predicates: carries out, and with .X in"}},
    {"IMAD", {imad, Pipe::kFmaHeavy, "d = a b + c; .WIDE: of 64 bits, .HI: their upper half"}},
    {"ISETP", {isetp, Pipe::kAlu, "p, q = (a ? b) op r, not (a ? b) op r"}},
    {"LEA", {lea, Pipe::kAlu, "d = (a << shift) + b; .HI: of the upper half of {c, a} << shift"}},
    {"LOP3", {lop3, Pipe::kAlu, "d = any function of the bits of a, b, c, by a table of 8"}},
    {"PLOP3", {plop3, Pipe::kAlu, "p, q = any functions of three predicates"}},
    {"SEL", {sel, Pipe::kAlu, "d = p ? a : b"}},
    {"SHF", {shf, Pipe::kAlu, "d = {c, a} shifted by b, its lower or upper half"}},
    {"IABS", {iabs, Pipe::kAlu, "d = |a|"}},
    {"VIADD", {viadd, Pipe::kFma, "d = a + b"}},
    {"VIMNMX", {vimnmx, Pipe::kAlu, "d = p ? min(a, b) : max(a, b)"}},
    {"VIMNMX3", {vimnmx, Pipe::kAlu, "d = p ? min(a, b, c) : max(a, b, c)"}},
    {"IMNMX", {vimnmx, Pipe::kAlu, "as VIMNMX"}},
    {"VIADDMNMX", {viaddmnmx, Pipe::kAlu, "d = p ? min(a + b, c) : max(a + b, c)"}},
    {"PRMT", {prmt, Pipe::kAlu, "d = four of the bytes of {c, a}, chosen by b"}},
    {"P2R", {p2r, Pipe::kAlu, "d = the predicates as bits, where the mask has one"}},
    {"R2P", {r2p, Pipe::kAlu, "the predicates = bits of a, where the mask has one"}},
    {"MOV", {mov, Pipe::kAlu, "d = a"}},
    {"R2UR", {mov, Pipe::kAlu, "d = a, of the first lane"}},
    {"POPC", {popc, Pipe::kXu, "d = the number of ones of a"}},
    {"FLO", {flo, Pipe::kXu, "d = the place of the highest one of a"}},
    // Floats
    {"FADD", {fadd, Pipe::kFma, "d = a + b"}},
    {"FMUL", {fmul, Pipe::kFma, "d = a b"}},
    {"FFMA", {ffma, Pipe::kFma, "d = a b + c, rounded once"}},
    {"HFMA2", {hfma2, Pipe::kFma, "d = two float16 immediates"}},
    {"HADD2", {hadd2, Pipe::kFma, "d = a float16 as a float"}},
    {"FSEL", {fsel, Pipe::kAlu, "d = p ? a : b"}},
    {"FMNMX", {fmnmx, Pipe::kAlu, "d = p ? min(a, b) : max(a, b); .NAN: NaN if one is"}},
    {"FSET", {fset, Pipe::kAlu, "d = (a ? b) op p ? 1 : 0, as floats: .BF"}},
    {"FSETP", {fsetp, Pipe::kAlu, "p, q = (a ? b) op r, not (a ? b) op r"}},
    {"FCHK", {fchk, Pipe::kXu, "p = whether a / b needs the slow path"}},
    {"MUFU", {mufu, Pipe::kXu, "d = RCP, RSQ, SQRT, EX2, LG2, SIN, COS or TANH of a"}},
    {"FRND", {frnd, Pipe::kXu, "d = a, rounded to an integer"}},
    // Doubles
    {"DADD", {dadd, Pipe::kFp64, "d = a + b"}},
    {"DMUL", {dmul, Pipe::kFp64, "d = a b"}},
    {"DFMA", {dfma, Pipe::kFp64, "d = a b + c, rounded once"}},
    {"DMNMX", {dmnmx, Pipe::kFp64, "d = p ? min(a, b) : max(a, b)"}},
    {"DSETP", {dsetp, Pipe::kFp64, "p, q = (a ? b) op r, not (a ? b) op r"}},
    // Conversions
    {"F2F", {f2f, Pipe::kXu, "d = a, of another width"}},
    {"F2FP", {f2fp, Pipe::kAlu, "d = a and b, rounded to 16 bits each"}},
    {"F2I", {f2i, Pipe::kXu, "d = a as an integer"}},
    {"I2F", {i2f, Pipe::kXu, "d = a as a float"}},
    {"I2FP", {i2f, Pipe::kAlu, "as I2F"}},
    // Memory
    {"LDC", {ldc, Pipe::kLsu, "d = a constant"}},
    {"LDG", {ldg, Pipe::kLsu, "d = global memory"}},
    {"LD", {ldg, Pipe::kLsu, "d = memory, taken for global"}},
    {"STG", {stg, Pipe::kLsu, "global memory = a"}},
    {"LDS", {lds, Pipe::kLsu, "d = shared memory"}},
    {"STS", {sts, Pipe::kLsu, "shared memory = a"}},
    {"SHFL", {shfl, Pipe::kLsu, "d = a of another lane"}},
    {"S2R", {s2r, Pipe::kLsu, "d = the number of the thread, lane or block"}},
    {"CS2R", {cs2r, Pipe::kAlu, "d = 0, of 64 bits"}},
    // Nothing that is emulated
    {"NOP", {nop, Pipe::kControl, ""}},
    {"YIELD", {nop, Pipe::kControl, ""}},
    {"ERRBAR", {nop, Pipe::kControl, ""}},
    // Control flow: block.cpp
    {"BRA", {nullptr, Pipe::kControl, "goes to the target"}},
    {"BRX", {nullptr, Pipe::kControl, "goes to the sum of a register and an immediate"}},
    {"BRXU", {nullptr, Pipe::kControl, "as BRX, by a register that the lanes share"}},
    {"CALL", {nullptr, Pipe::kControl, "goes to the target; the return address is in a register"}},
    {"RET", {nullptr, Pipe::kControl, "goes to where a register says"}},
    {"BSSY", {nullptr, Pipe::kControl, "these lanes will meet"}},
    {"BSYNC", {nullptr, Pipe::kControl, "waits for them"}},
    {"BREAK", {nullptr, Pipe::kControl, "will not come"}},
    {"BAR", {nullptr, Pipe::kControl, "waits for all warps of the block"}},
    {"WARPSYNC", {nullptr, Pipe::kControl, "waits for all lanes of the warp"}},
    {"ENDCOLLECTIVE", {nullptr, Pipe::kControl, "ends what lanes that have parted do together"}},
    {"EXIT", {nullptr, Pipe::kControl, "is done"}},
};

}  // namespace

void resolve(Instruction& i) {
  std::string_view name = i.opcode;
  auto found = kTable.find(name);
  const bool is_uniform = found == kTable.end() && name.starts_with('U');
  if (is_uniform) found = kTable.find(name.substr(1));
  if (name == "S2UR") found = kTable.find("S2R");
  if (found == kTable.end()) {
    problem("an unknown instruction: " + i.text);
    i.run = nop;
    return;
  }
  i.run = found->second.run;
  i.pipe = is_uniform || name == "S2UR" || name == "R2UR" ? Pipe::kUniform : found->second.pipe;
  // Immediates, in the form that the instruction reads.
  const bool is_double = name.starts_with('D'), is_float = name.starts_with('F') || name == "MUFU";
  for (Operand& o : i.operands) {
    if (o.kind != Kind::kImmediate) continue;
    if (is_double) {
      if (!o.is_float) o.bits <<= 32;
      if (o.is_float) o.bits = std::bit_cast<uint64_t>(o.number);
    } else if (o.is_float && is_float) {
      o.bits = std::bit_cast<uint32_t>(static_cast<float>(o.number));
    } else if (o.is_float) {
      o.bits = static_cast<uint32_t>(static_cast<int64_t>(o.number));
    }
  }
}

void print_table() {
  for (const auto& [name, entry] : kTable) {
    std::printf("%-10s %s\n", std::string(name).c_str(), entry.meaning);
  }
}

}  // namespace sass
