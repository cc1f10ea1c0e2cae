#include <algorithm>

#include "block.h"
#include "handlers.h"

namespace sass {
namespace {

uint32_t bytes_of(const Instruction& i) {
  return i.has(k128) ? 16 : i.has(k64) ? 8 : i.has(kU8 | kS8) ? 1 : i.has(kU16 | kS16) ? 2 : 4;
}

void addresses(Warp& w, const Operand& o, bool is_global, Row64& to) {
  uint64_t shared = static_cast<uint64_t>(o.offset);
  if (o.uniform_base >= 0 && o.uniform_base != kZeroRegister) {
    const bool wide = is_global && (o.base < 0 || o.wide_base);
    shared += w.uniform[o.uniform_base];
    if (wide) shared += static_cast<uint64_t>(w.uniform[o.uniform_base + 1]) << 32;
  }
  const bool has_base = o.base >= 0 && o.base != kZeroRegister;
  for (int l = 0; l < kLanes; ++l) {
    to[l] = shared;
    if (!has_base) continue;
    to[l] += w.registers[o.base][l];
    if (o.wide_base) to[l] += static_cast<uint64_t>(w.registers[o.base + 1][l]) << 32;
  }
}

// Transfers of 32 bytes that a warp's access takes.
uint64_t sectors_of(const Row64& address, uint32_t bytes, Lanes on) {
  uint64_t found[kLanes];
  int count = 0;
  for (int l = 0; l < kLanes; ++l) {
    if (on >> l & 1) found[count++] = address[l] / 32;
  }
  std::sort(found, found + count);
  const auto different = std::unique(found, found + count) - found;
  return static_cast<uint64_t>(different) * (bytes > 32 ? bytes / 32 : 1);
}

// Rounds of shared memory's 32 banks of 4 bytes: a wide access takes 2 or 4 by itself.
uint64_t rounds_of(const Row64& address, uint32_t bytes, Lanes on) {
  const int lanes_at_once = bytes == 16 ? 8 : bytes == 8 ? 16 : 32;
  uint64_t rounds = 0;
  for (int first = 0; first < kLanes; first += lanes_at_once) {
    uint32_t words[32][32];
    int count[32] = {};
    for (int l = first; l < first + lanes_at_once; ++l) {
      if ((on >> l & 1) == 0) continue;
      for (uint32_t k = 0; k < std::max(1u, bytes / 4); ++k) {
        const auto word = static_cast<uint32_t>(address[l] / 4 + k), bank = word % 32;
        uint32_t* const known = words[bank];
        if (std::find(known, known + count[bank], word) == known + count[bank]) {
          known[count[bank]++] = word;
        }
      }
    }
    rounds += static_cast<uint64_t>(*std::max_element(count, count + 32));
  }
  return rounds;
}

bool check_global(const Warp& w, const Instruction& i, uint64_t address, uint32_t bytes) {
  if (address % bytes != 0) problem("misaligned: " + i.opcode + " in " + w.block->kernel.title);
  if (address >= 4096) return true;
  problem("a null pointer: " + i.text + " in " + w.block->kernel.title);
  return false;
}

bool check_shared(const Warp& w, const Instruction& i, uint64_t address, uint32_t bytes) {
  const Block& b = *w.block;
  const uint64_t end = b.shared_start() + static_cast<uint64_t>(b.kernel.shared_bytes);
  if (address % bytes != 0) problem("misaligned: " + i.opcode + " in " + b.kernel.title);
  if (address >= b.shared_start() && address + bytes <= end) return true;
  problem("beyond shared memory: " + i.text + " in " + b.kernel.title);
  return false;
}

void load_lane(Warp& w, const Instruction& i, int lane, const void* from, uint32_t bytes) {
  const Operand& to = i[0];
  if (to.index == kZeroRegister) return;
  uint32_t words[4] = {};
  std::memcpy(words, from, bytes);
  if (i.has(kS8)) words[0] = static_cast<uint32_t>(static_cast<int8_t>(words[0]));
  if (i.has(kS16)) words[0] = static_cast<uint32_t>(static_cast<int16_t>(words[0]));
  for (uint32_t k = 0; k < std::max(1u, bytes / 4); ++k) {
    w.registers[to.index + static_cast<int>(k)][lane] = words[k];
  }
}

void store_lane(const Warp& w, const Operand& from, int lane, void* to, uint32_t bytes) {
  uint32_t words[4] = {};
  if (from.index != kZeroRegister) {
    for (uint32_t k = 0; k < std::max(1u, bytes / 4); ++k) {
      words[k] = w.registers[from.index + static_cast<int>(k)][lane];
    }
  }
  std::memcpy(to, words, bytes);
}

// Where a fault of this process finds what was being done.
thread_local const Instruction* current = nullptr;

}  // namespace

const Instruction* current_access() { return current; }

// ---- Constants ---------------------------------------------------------------------------------

namespace {

const uint8_t* constant_at(const Block& b, uint32_t bank, uint64_t offset) {
  if (bank == 0) return offset + 4 <= b.parameters.size() ? b.parameters.data() + offset : nullptr;
  if (bank >= std::size(b.kernel.constants)) return nullptr;
  const auto& words = b.kernel.constants[bank];
  const auto* bytes = reinterpret_cast<const uint8_t*>(words.data());
  return offset + 4 <= 4 * words.size() ? bytes + offset : nullptr;
}

}  // namespace

const uint32_t* constant_row(Warp& w, const Operand& o, Row& scratch, int word) {
  uint64_t offset = static_cast<uint64_t>(o.offset + 4 * word);
  if (o.uniform_base >= 0 && o.uniform_base != kZeroRegister) offset += w.uniform[o.uniform_base];
  const bool by_lane = o.base >= 0 && o.base != kZeroRegister;
  for (int l = 0; l < (by_lane ? kLanes : 1); ++l) {
    const uint32_t own = by_lane ? w.registers[o.base][l] : 0;
    const uint8_t* at = constant_at(*w.block, o.bank, static_cast<uint32_t>(offset + own));
    scratch[l] = 0xcdcdcdcdu;  // lanes that are away may have any address
    if (at != nullptr) {
      std::memcpy(&scratch[l], at, 4);
    } else if (!by_lane) {
      problem("beyond the constants: " + o.text + " in " + w.block->kernel.title);
    }
  }
  return by_lane ? scratch : broadcast(scratch[0], scratch);
}

void ldc(Warp& w, const Instruction& i, Lanes on) {
  const uint32_t bytes = bytes_of(i);
  Row rows[4];
  if (bytes < 4) {
    Operand aligned = i[1];
    uint64_t shift = 8 * static_cast<uint64_t>(aligned.offset & 3);
    aligned.offset &= ~int64_t{3};
    if (aligned.base >= 0 && aligned.base != kZeroRegister) problem("not known: " + i.text);
    const uint32_t* from = constant_row(w, aligned, rows[0], 0);
    Row out;
    for (int l = 0; l < kLanes; ++l) out[l] = from[l] >> shift & (bytes == 1 ? 0xffu : 0xffffu);
    write(w, i[0], out, on);
    return;
  }
  const uint32_t* from[4];
  const int words = static_cast<int>(bytes / 4);
  for (int k = 0; k < words; ++k) from[k] = constant_row(w, i[1], rows[k], k);
  for (int k = 0; k < words; ++k) {
    if (from[k] != rows[k]) std::memcpy(rows[k], from[k], sizeof(Row));
  }
  for (int k = 0; k < words; ++k) write(w, i[0], rows[k], on, k);
}

// ---- Global memory: this process's own ---------------------------------------------------------

void ldg(Warp& w, const Instruction& i, Lanes on) {
  const uint32_t bytes = bytes_of(i);
  const auto memory = std::find_if(i.operands.begin(), i.operands.end(),
                                   [](const Operand& o) { return o.kind == Kind::kMemory; });
  Row64 address;
  addresses(w, *memory, true, address);
  i.sectors += sectors_of(address, bytes, on);
  current = &i;
  for (int l = 0; l < kLanes; ++l) {
    if ((on >> l & 1) == 0 || !check_global(w, i, address[l], bytes)) continue;
    load_lane(w, i, l, reinterpret_cast<const void*>(address[l]), bytes);
  }
  current = nullptr;
}

void stg(Warp& w, const Instruction& i, Lanes on) {
  const uint32_t bytes = bytes_of(i);
  Row64 address;
  addresses(w, i[0], true, address);
  i.sectors += sectors_of(address, bytes, on);
  current = &i;
  for (int l = 0; l < kLanes; ++l) {
    if ((on >> l & 1) == 0 || !check_global(w, i, address[l], bytes)) continue;
    store_lane(w, i[1], l, reinterpret_cast<void*>(address[l]), bytes);
  }
  current = nullptr;
}

// ---- Shared memory -----------------------------------------------------------------------------

void lds(Warp& w, const Instruction& i, Lanes on) {
  const uint32_t bytes = bytes_of(i);
  Row64 address;
  addresses(w, i[1], false, address);
  i.rounds += rounds_of(address, bytes, on);
  for (int l = 0; l < kLanes; ++l) {
    if ((on >> l & 1) == 0 || !check_shared(w, i, address[l], bytes)) continue;
    w.block->touch_shared(static_cast<uint32_t>(address[l]), bytes, false, w);
    load_lane(w, i, l, w.block->shared.data() + address[l], bytes);
  }
}

void sts(Warp& w, const Instruction& i, Lanes on) {
  const uint32_t bytes = bytes_of(i);
  Row64 address;
  addresses(w, i[0], false, address);
  i.rounds += rounds_of(address, bytes, on);
  for (int l = 0; l < kLanes; ++l) {
    if ((on >> l & 1) == 0 || !check_shared(w, i, address[l], bytes)) continue;
    w.block->touch_shared(static_cast<uint32_t>(address[l]), bytes, true, w);
    store_lane(w, i[1], l, w.block->shared.data() + address[l], bytes);
  }
}

// ---- Between lanes -----------------------------------------------------------------------------

// SHFL.BFLY PT, R0, R1, mask, clamp: from the lane whose number differs by the mask.
void shfl(Warp& w, const Instruction& i, Lanes on) {
  if (on != kAllLanes) problem("a shuffle with lanes missing in " + w.block->kernel.title);
  if (i.text.find(".BFLY") == std::string::npos) problem("not known: " + i.text);
  Row from_, by_, out;
  const uint32_t *from = raw(w, i[2], from_), *by = raw(w, i[3], by_);
  for (int l = 0; l < kLanes; ++l) {
    const uint32_t other = (static_cast<uint32_t>(l) ^ by[l]) & 31;
    if ((on >> other & 1) == 0) problem("a shuffle from a lane that is away");
    out[l] = from[other];
  }
  write_predicate(w, i[0], kAllLanes, on);
  write(w, i[1], out, on);
}

void s2r(Warp& w, const Instruction& i, Lanes on) {
  Row out;
  const std::string& name = i[1].text;
  for (int l = 0; l < kLanes; ++l) {
    if (name == "SR_TID.X") {
      out[l] = static_cast<uint32_t>(w.first_thread + l);
    } else if (name == "SR_CTAID.X") {
      out[l] = w.block->index;
    } else if (name == "SR_LANEID") {
      out[l] = static_cast<uint32_t>(l);
    } else if (name == "SR_CgaCtaId") {
      out[l] = 0;
    } else {
      problem("not known: " + i.text);
    }
  }
  write(w, i[0], out, on);
}

void cs2r(Warp& w, const Instruction& i, Lanes on) {
  if (i[1].text != "SRZ") problem("not known: " + i.text);
  Row scratch;
  const uint32_t* zero = broadcast(0, scratch);
  write(w, i[0], zero, on);
  if (i.text.find("CS2R.32") == std::string::npos) write(w, i[0], zero, on, 1);
}

void flo(Warp& w, const Instruction& i, Lanes on) {
  Row a;
  integers(w, i[1], a);
  const bool shift = i.text.find(".SH") != std::string::npos;
  for (uint32_t& x : a) {
    const auto from_top = static_cast<uint32_t>(std::countl_zero(x));
    x = x == 0 ? ~0u : shift ? from_top : 31 - from_top;
  }
  write(w, i[0], a, on);
}

}  // namespace sass
