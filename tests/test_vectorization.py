"""Every formula's loops are vector code: a turn of phrase that the compiler does not see through
makes one five times slower, and nothing else shows it."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vae_ext._formulas import FORMULAS

ROOT = Path(__file__).resolve().parent.parent
HEAD = """#define VAE_EXT_LEVEL avx2
#pragma GCC target("avx2,fma,f16c")
#define VAE_EXT_FMA
#include "math/count_mixtures.h"
#include "math/likelihoods.h"
#include "math/sampling.h"
using namespace vae_ext;
constexpr auto kFull = ExpRange::kFull;
"""
FLAGS = [
    *("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopt-info-vec-optimized"),
    "-fno-ipa-icf",  # of two functions that are the same, both are to be reported
]


def structs() -> dict[str, str]:
    """Of each op, its formula."""
    lines = (ROOT / "csrc/ops/formulas.def").read_text()
    found = re.findall(r"VAE_EXT_(LIKELIHOOD|DIVERGENCE)\((\w+), (\w+)", lines)
    suffix = {"LIKELIHOOD": "_log_likelihood", "DIVERGENCE": ""}
    return {name + suffix[kind]: struct for kind, name, struct in found}


def loop(name: str, call: str, inputs: int, results: int) -> str:
    """On one line: the compiler names the loop by it."""
    read = ", ".join(f"const float* x{i}" for i in range(inputs))
    write = ", ".join(f"float* __restrict y{i}" for i in range(max(results, 1)))
    each = ", ".join(f"x{i}[i]" for i in range(inputs))
    if not results:
        body = f"y0[i] = {call}{each});"
    else:
        stores = " ".join(f"y{i}[i] = d.by[{i}];" for i in range(results))
        body = f"const auto d = {call}y0[i], {each}); {stores}"
    return f"void {name}(int n, {write}, {read}) {{ for (int i = 0; i < n; ++i) {{ {body} }} }}\n"


def loops() -> Iterator[tuple[str, str]]:
    of_op = structs()
    for formula in FORMULAS:
        kinds = [(of_op[formula.op], len(formula.arguments))]
        if formula.op == "gaussian_kl":
            kinds.append((f"{kinds[0][0]}::Standard", 2))
        for struct, inputs in kinds:
            for form in range(formula.forms):
                told = f"{form}, " if formula.forms > 1 else ""
                template = "<kFull>"
                ends = [("", "")]
                if not formula.target_gradient:
                    told, template = f"{form}, ", ""
                    ends = [("_at_zero", ""), ("_above_zero", "false, "), ("_above_zero", "true, ")]
                for end, whole in ends:
                    name = f"{struct.replace('::', '_')}{end}_{whole.strip(', ')}{form}"
                    value, slopes = (
                        f"{struct}::{f}{end}{template}({told}{whole}"
                        for f in ("value", "gradients")
                    )
                    yield f"{name}_value", loop(f"{name}_value", value, inputs, 0)
                    yield (
                        f"{name}_gradients",
                        loop(f"{name}_gradients", slopes, inputs, inputs),
                    )
    for form in range(3):
        for call in ("reparameterize", "reparameterize_dscale"):
            name = f"{call}_{form}"
            yield name, loop(name, f"vae_ext::{call}({form}, ", 3, 0)


@pytest.fixture(scope="module")
def vectorized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    compiler = shutil.which("g++")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("there is no g++ for x86, whose report this reads")
    folder = tmp_path_factory.mktemp("loops")
    names, lines = zip(*loops(), strict=True)
    (folder / "loops.cpp").write_text(HEAD + "".join(lines))
    done = subprocess.run(
        [compiler, *FLAGS, f"-I{ROOT / 'csrc'}", "-c", "loops.cpp", "-o", "loops.o"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.findall(r"loops\.cpp:(\d+):\d+: optimized: loop vectorized using 32", done.stderr)
    first = HEAD.count("\n") + 1
    numbers = {int(n) for n in found}
    return {name: first + i in numbers for i, name in enumerate(names)}


@pytest.mark.parametrize("name", [name for name, _ in loops()])
def test_loops_are_vectors(vectorized: dict[str, bool], name: str) -> None:
    assert vectorized[name]
