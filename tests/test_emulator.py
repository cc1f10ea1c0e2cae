"""The machine code of the CUDA kernels, run on the CPU: a part of `make cuda-emulate ARGS=--full`,
and what the emulator itself must get right."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

from tests.test_cuda_build import tools
from tools.emulator import model
from tools.emulator.__main__ import Counted, by_opcode, compare, pytest_command
from tools.emulator.build import build, objects_of
from tools.emulator.extract import MissingToolError, cuobjdump, extract_all
from tools.emulator.rows import Row

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build/cuda"
QUICK = [
    ["tests/test_layouts.py", "tests/test_noise.py", "tests/test_elbo.py", "tests/test_memory.py"],
    [
        "tests/test_edges.py",
        "tests/test_draw.py",
        "tests/test_scales.py",
        "tests/test_machine_code.py",
    ],
    ["tests/test_parity.py", "-k", "test_value_and_gradients and (float32 or bfloat16)"],
    [
        *(f"tests/test_{name}.py" for name in ("groups", "pixels", "mixtures")),
        *("tests/test_total_correlation.py", "--one-in", "2"),
    ],
]


@pytest.fixture(scope="module")
def machine_code() -> Path:
    """Of kernels that `make cuda` has compiled: here that would take minutes."""
    required = os.environ.get("VAE_EXT_REQUIRE_TOOLS") == "1"
    if not required and not (FOLDER / "_cuda.so").exists():
        pytest.skip("the kernels are not compiled: make cuda")
    try:
        cuobjdump()
    except MissingToolError as error:
        if required:
            raise
        pytest.skip(str(error))
    with (FOLDER / "lock").open("w") as lock:  # other workers ask for it, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        extract_all(objects_of(FOLDER), 90)
        build(FOLDER / "emulator")
    return FOLDER


@pytest.mark.parametrize("tests", QUICK, ids=lambda tests: tests[0])
def test_the_machine_code(machine_code: Path, tests: list[str]) -> None:
    done = subprocess.run(
        pytest_command(machine_code, 90, tests),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    launches = re.search(r"(\d+) launches of emulated machine code", done.stdout)
    assert launches
    assert int(launches[1]) > 100


def test_every_kernel_is_known(machine_code: Path) -> None:
    """All of them are listed, with as many registers as the compiler says."""
    programs = extract_all(objects_of(machine_code), 90)
    logs = "".join(p.read_text() for p in machine_code.glob("*.o.log"))
    compiled = set(re.findall(r"entry function '(\S+)' for 'sm_90'", logs))
    listed = {}
    for program in programs:
        name = ""
        with open(program) as lines:
            for line in lines:
                if line.startswith("K "):
                    name = line.split()[1]
                elif line.startswith("A "):
                    listed[name] = int(line.split()[2])
    assert listed.keys() == compiled
    assert all(registers > 0 for registers in listed.values())


REPORT = """K elementwise_kernel<Something>
L 1 2 512 4 40 4096
I fma 96 3072 0 0 0 FFMA R0, R1, R2, R3
I alu 32 1024 0 0 10 LOP3.LUT R0, R1, R2, R3, 0x96, !PT
I lsu 16 512 64 0 20 LDG.E.128 R4, desc[UR4][R2.64]
I lsu 8 256 0 16 30 LDS R4, [R2]
"""


def test_the_model(tmp_path: Path) -> None:
    """By hand: half of the blocks have run, of 4,096 elements."""
    (tmp_path / "report").write_text(REPORT)
    (counts,) = model.read(tmp_path / "report", 4096)
    assert counts.elements == 2048
    assert counts.pipes == {"fma": 1.5, "alu": 0.5, "lsu": 0.375}
    assert counts.instructions == 2.375
    assert counts.opcodes == {"FFMA": 1.5, "LOP3 96": 0.5, "LDG": 0.25, "LDS": 0.125}
    assert by_opcode(counts) == "1.5 FFMA, 0.5 LOP3 96, 0.4 others"
    assert counts.moved == 1.0
    assert counts.extra_rounds == 1.0
    assert counts.accesses == {"LDG.E.128": 1.0, "LDS": 0.5}
    counts.accesses |= {"LDG.E.U16.CONSTANT": 2.0, "LDG.E": 0.01}
    assert counts.widths("LDG") == "16, 128"  # the usual first, without the rare one
    assert counts.widths("LDS") == "32"
    assert counts.widths("STG") == ""
    assert counts.blocks == 6  # of 40 registers
    share, limit = counts.ceiling(0.001, "H100")
    assert limit == "issue"
    seconds = 2.375 / 128 / (132 * 1.755e9)
    assert share == pytest.approx(0.001 / 3.0e12 / seconds)
    assert counts.ceiling(8, "H200") == (1.0, "memory")


def test_what_costs_more_is_named() -> None:
    row = Row("kl, forward", torch.float32, (4, 8), 2, lambda: None)
    counts = model.Counts("kernel", 32, 0, 1)
    counts.pipes["fma"] = 41.5
    found = [Counted(row, counts)]
    assert compare(found, {row.key: 41.0}) == []
    assert compare(found, {row.key: 40.0}) == [
        "kl, forward | float32 | 4x8: 41.5 instructions, budget 40.0"
    ]
    assert "not in the budget" in compare(found, {})[0]


UNKNOWN = """
#include "program.h"
#include <cstdio>
int main() {
  sass::parse_instruction(0, "FADD R0, R1, -R2");
  if (sass::problem_count() != 0) return 1;
  sass::parse_instruction(0, "HMMA.16816.F32 R4, R8, R16, R4");
  sass::print_problems();
  return sass::problem_count() > 0 ? 0 : 1;
}
"""


def test_an_unknown_instruction_is_named(tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(UNKNOWN)
    source = ROOT / "tools/emulator/src"
    files = [str(p) for p in source.glob("*.cpp") if p.stem != "runtime"]
    command = ["c++", "-std=c++20", "-O0", f"-I{source}", str(tmp_path / "main.cpp"), *files]
    subprocess.run([*command, "-o", str(tmp_path / "main")], check=True)
    done = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "an unknown instruction: HMMA.16816.F32 R4, R8, R16, R4" in done.stderr


def test_the_compiler_that_the_budget_is_of(machine_code: Path) -> None:
    """Another would count other instructions."""
    assert machine_code.exists()
    nvcc = tools.find_nvcc()
    assert nvcc
    budget = json.loads((ROOT / "tools/emulator/budget.json").read_text())
    assert budget["nvcc"] == ".".join(map(str, tools.nvcc_version(nvcc)))
