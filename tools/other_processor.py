"""The CPU kernels' portable level on a processor that is not here, by a cross compiler and qemu.

    python -m tools.other_processor                            aarch64
    python -m tools.other_processor --compiler g++ --runner   this one, as a control

Every formula, group and mixture, the noise, its words, sums and halves: a program without torch
runs the tiles, and what it writes is held to the limits of docs/accuracy.md, against exact values.
No time is measured. On Debian: apt-get install g++-aarch64-linux-gnu qemu-user.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vae_ext
from tests.accuracy.measure import error, exact_and_terms, limits, long_array, used
from tests.arithmetic import LONG, Bulk
from tests.cases import MEASURED, Case
from tests.exact import box_muller
from tests.group_cases import BIN, CLASSES
from tests.inputs import Draw
from vae_ext._formulas import FORMULAS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [ROOT / "csrc/testing/run_tiles.cpp", ROOT / "csrc/cpu/kernels_baseline.cpp"]
FLAGS = ["-std=c++20", "-O3", "-Wall", "-Wextra", "-Werror", "-static"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math"]  # as setup.py
NAMES = {torch.float32: "float32", torch.float64: "float64"}
N = 1 << 13
KERNELS = {formula.op.removesuffix("_log_likelihood") for formula in FORMULAS}


class Program:
    """The tiles of another processor."""

    def __init__(self, compiler: str, runner: Sequence[str], folder: Path) -> None:
        self.path, self.runner = folder / "run_tiles", list(runner)
        subprocess.run(
            [compiler, *FLAGS, *map(str, SOURCES), "-o", str(self.path)], cwd=ROOT, check=True
        )

    def __call__(
        self, what: str, dtype: torch.dtype, n: int, numbers: Sequence[int], inputs: Sequence[Any]
    ) -> bytes:
        words = [what, NAMES[dtype], str(n), *map(str, numbers)]
        given = b"".join(np.ascontiguousarray(x).tobytes() for x in inputs)
        done = subprocess.run(
            [*self.runner, str(self.path), *words], input=given, capture_output=True, check=True
        )
        return done.stdout

    def floats(self, what: str, n: int, numbers: Sequence[int], inputs: Sequence[Tensor]) -> Tensor:
        """Its results, each of n elements, in the dtype of the inputs."""
        out = self(what, inputs[0].dtype, n, numbers, [t.numpy() for t in inputs])
        kind = inputs[0].numpy().dtype
        return torch.from_numpy(np.frombuffer(out, kind).copy()).view(-1, n)


def name_of(case: Case) -> str | None:
    """Its kernel's, where it is a formula."""
    if case.name == "gaussian_kl":
        return "standard_gaussian_kl"
    name = case.name.removesuffix("_log_likelihood").removesuffix("_prior")
    return name if name in KERNELS else None


def results(program: Program, case: Case, inputs: list[Tensor]) -> list[tuple[int | None, Tensor]]:
    """Of a case the value and the gradients, of both passes where there are two; by what."""
    n = len(inputs[0])
    every = range(len(inputs))
    if case is BIN:  # a mixture of one: its weight, its mean, its scale
        mean, target, log_scale = inputs
        of = [torch.zeros_like(mean), mean, log_scale, target]
        value, _, by_mean, by_scale = program.floats("discretized_logistic_mixture", n, [3], of)
        return [(None, value), (0, by_mean), (2, by_scale)]
    if case is CLASSES:
        of = [*inputs, torch.zeros_like(inputs[0])]
        value, *by = program.floats("categorical", n, [3], of)
        return [(None, value), *zip(every, by, strict=True)]
    name = name_of(case)
    if name is None:
        return []
    out = program.floats(name, n, [len(inputs)], inputs)
    value, *by = out[: len(inputs) + 1]
    again, *by_again = out[len(inputs) + 1 :]
    found: list[tuple[int | None, Tensor]] = [(None, value), (None, again)]
    found += [*zip(every, by, strict=True)]
    # The one pass has no gradient of the target.
    found += [(i, g) for i, g in zip(every, by_again, strict=True) if case.arguments[i] != "target"]
    return found


def formulas(program: Program) -> Iterator[tuple[str, float, float]]:
    """What is measured, the largest error and the limit, in the contract's unit."""
    for case in MEASURED:
        for dtype in NAMES:
            for name, inputs in case.sets(Draw(N // case.share)).items():
                rounded = [t.to(dtype) for t in inputs]
                got = results(program, case, rounded)
                for quantity, by in case.quantities if got else ():
                    if not used(quantity, by, name, dtype):
                        continue
                    limit = limits(quantity, dtype)
                    exact = exact_and_terms(quantity, rounded)
                    errors = [error(quantity, t, *exact, dtype, limit) for i, t in got if i == by]
                    assert errors
                    worst = max(e.max for e in errors)
                    yield f"{case.name}, {quantity.name}, {name}, {NAMES[dtype]}", worst, limit


def rest(program: Program) -> Iterator[tuple[str, float, float]]:
    """Noise, sums, halves and mixtures, likewise."""
    seed, stream, n = 2**63 + 5, 7, 1 << 14
    where = [seed, stream, 0]
    words = np.frombuffer(program("words", torch.float32, n, where, []), np.int64)
    ours = vae_ext.testing.philox_words(n, seed - 2**64, stream).numpy()
    yield "words", float((words != ours).sum()), 0
    wide = ours.astype(LONG)
    normals = np.stack(box_muller(Bulk, wide[0::2], wide[1::2]), 1).reshape(-1)
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        kind = np.float32 if dtype is torch.float32 else np.float64
        noise = np.frombuffer(program("noise", dtype, n, where, []), kind)
        if dtype is torch.float32:
            yield f"noise, {NAMES[dtype]}", float(np.abs(noise.astype(LONG) - normals).max()), limit
        else:  # which takes its words otherwise
            same = vae_ext.standard_normal(n, seed=seed - 2**64, stream=stream, dtype=dtype)
            yield f"noise, {NAMES[dtype]}", float(np.abs(noise - same.numpy()).max()), limit
    x = torch.randn(100_001)
    total = np.frombuffer(program("sum", torch.float32, len(x), [], [x.numpy()]), np.float64)[0]
    off = abs(float(long_array(x).sum() - LONG(total))) / float(x.abs().sum())
    yield "sum", off, 5e-7
    every = np.arange(1 << 16, dtype=np.uint16)
    out = program("halves", torch.float32, len(every), [], [every, every])
    step = len(out) // 2
    for i, dtype in enumerate((torch.float16, torch.bfloat16)):
        part = out[i * step : (i + 1) * step]
        loaded = torch.from_numpy(np.frombuffer(part[: 4 * len(every)], np.float32).copy())
        stored = np.frombuffer(part[4 * len(every) :], np.uint16)
        want = torch.from_numpy(every.view(np.int16).copy()).view(dtype).float()
        number = ~want.isnan()
        wrong = int((loaded[number] != want[number]).sum() + (~loaded[~number].isnan()).sum())
        wrong += int((stored[number.numpy()] != every[number.numpy()]).sum())
        yield f"{str(dtype).removeprefix('torch.')}, wrong of all", wrong, 0
    for dtype in NAMES:
        dims, rows, components = 40, 32, 16  # kMixtureRows, kMixturePanel
        z, mean, scale = (torch.randn(dims, k).to(dtype) for k in (rows, components, components))
        c = torch.randn(components, dtype=torch.float64)
        out = program("mixture", dtype, dims, [], [t.numpy() for t in (z, mean, scale, c)])
        got = torch.from_numpy(np.frombuffer(out, np.float64).copy()).view(rows, components)
        square = (
            ((z[:, :, None] - mean[:, None]).double() * scale[:, None].double()).square().sum(0)
        )
        off = float(((got - (c - 0.5 * square)).abs() / (0.5 * square)).max())
        yield f"mixture, {NAMES[dtype]}", off / torch.finfo(dtype).eps, 8


def check(program: Program, show: bool = False) -> list[str]:
    """What is beyond its limit."""
    complaints, n = [], 0
    for name, worst, limit in (*formulas(program), *rest(program)):
        n += 1
        if show:
            print(f"{name:90} {worst:10.3g} of {limit:.3g}")
        if not worst <= limit:
            complaints.append(f"{name}: {worst:.3g}, expected at most {limit:.3g}")
    assert n > 300
    print(f"{n} quantities, {len(complaints)} beyond their limit")
    return complaints


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.other_processor", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--compiler", default="aarch64-linux-gnu-g++")
    parser.add_argument("--runner", nargs="*", default=["qemu-aarch64"], help="before the program")
    parser.add_argument("--all", action="store_true", help="print every quantity")
    args = parser.parse_args()
    for tool in (args.compiler, *args.runner[:1]):
        if shutil.which(tool) is None:
            sys.exit(
                f"{tool} is missing: on Debian apt-get install g++-aarch64-linux-gnu qemu-user"
            )
    with tempfile.TemporaryDirectory() as folder:
        complaints = check(Program(args.compiler, args.runner, Path(folder)), args.all)
    print(*complaints, sep="\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
