"""What a card can do at best with the instructions that were counted: a ceiling, no prediction.

A multiprocessor issues four instructions a cycle, of a warp each, and its pipes take fewer. What
latency, caches and the real scheduler cost is not in it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Threads' instructions that a multiprocessor of compute capability 9.0 takes in a cycle.
RATES = {"issue": 128, "alu": 64, "fma": 128, "fmaheavy": 64, "fp64": 64, "xu": 16, "lsu": 32}
RATES["uniform"] = 64
MULTIPROCESSORS, HERTZ = 132, 1.755e9
# Of a copy, read and written, in bytes a second: measured.
BANDWIDTHS = {"H100": 3.0e12, "H200": 4.3e12}


@dataclass
class Counts:
    """Of one kernel: what a thread executes for an element, and what a warp's accesses move."""

    kernel: str
    registers: int
    shared_bytes: int
    elements: float
    pipes: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    opcodes: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    # by opcode and width, per thread
    accesses: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    moved: float = 0  # bytes of global memory, in transfers of 32
    extra_rounds: float = 0  # of shared memory's banks, per access

    @property
    def instructions(self) -> float:
        return sum(self.pipes.values())

    @property
    def blocks(self) -> int:
        """Of 256 threads, that a multiprocessor has registers and shared memory for."""
        by_registers = 65536 // (256 * -(-max(self.registers, 1) // 8) * 8)
        by_shared = 233472 // max(self.shared_bytes + 1024, 1)
        return min(8, by_registers, by_shared)

    def widths(self, opcode: str) -> str:
        """Bits of a thread's accesses by an opcode, the usual first; rare ones are left out."""
        found: dict[int, float] = defaultdict(float)
        for access, count in self.accesses.items():
            name, *modifiers = access.split(".")
            if name == opcode:
                bits = [int(m.lstrip("US")) for m in modifiers if m.lstrip("US").isdigit()]
                found[bits[0] if bits else 32] += count
        usual = sorted(found, key=lambda bits: -found[bits])
        return ", ".join(str(bits) for bits in usual if found[bits] > 0.02 * sum(found.values()))

    def limits(self) -> dict[str, float]:
        """Cycles of a multiprocessor for an element, by what it waits for."""
        used = {"issue": self.instructions, **self.pipes}
        # Both kinds go through the same pipe.
        used["fma"] = used.get("fma", 0) + used.get("fmaheavy", 0)
        return {name: used.get(name, 0) / rate for name, rate in RATES.items()}

    def ceiling(self, bytes_per_element: float, card: str) -> tuple[float, str]:
        """As a share of the bandwidth of a copy, and what sets it."""
        limits = self.limits()
        most = max(limits, key=lambda name: limits[name])
        seconds = limits[most] / (MULTIPROCESSORS * HERTZ)
        share = bytes_per_element / BANDWIDTHS[card] / seconds
        return (1.0, "memory") if share >= 1 else (share, most)


def opcode(text: str) -> str:
    """With what tells its uses apart: the function of a special-function unit, the table of a LOP3
    (0x96 is the exclusive or of three), the width of a product."""
    name = re.sub(r"^@\S+\s+", "", text).split()[0]
    kind = ".".join(name.split(".")[: 2 if name.startswith(("MUFU", "F2F", "IMAD")) else 1])
    table = re.search(r"0x([0-9a-f]{1,2}), !PT$", text) if kind == "LOP3" else None
    return f"{kind} {table[1]}" if table else kind


def read(path: Path, elements: int) -> Iterator[Counts]:
    """The counts of a report (emulator_write_counts) of kernels over so many elements each."""
    counts: Counts | None = None
    threads = warps_in_shared = rounds = 0
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "K":
            if counts:
                yield finished(counts, warps_in_shared, rounds)
            title, warps_in_shared, rounds = rest, 0, 0
        elif kind == "L":
            launches, blocks, threads, grid, registers, shared = map(int, rest.split())
            share = blocks / (grid * launches)
            counts = Counts(title, registers, shared, elements * launches * share)
        else:
            assert counts
            pipe, warps_, lanes_, sectors, rounds_, _, text = rest.split(" ", 6)
            executed = 32 * int(warps_) / counts.elements
            counts.pipes[pipe] += executed
            counts.opcodes[opcode(text)] += executed
            counts.moved += 32 * int(sectors) / counts.elements
            access = re.search(r"\b(LDG|STG|LDS|STS)\S*", text)
            if access:
                counts.accesses[access[0]] += int(lanes_) / threads
            if int(rounds_):
                warps_in_shared += int(warps_)
                rounds += int(rounds_)
    if counts:
        yield finished(counts, warps_in_shared, rounds)


def finished(counts: Counts, warps: int, rounds: int) -> Counts:
    counts.extra_rounds = rounds / warps - 1 if warps else 0.0
    return counts
