"""Measure every quantity on every set, print the table, write docs/accuracy.md and its picture.

    python -m tests.accuracy [--log2 20] [--out docs]

Exits with 1 where the contract is broken.
"""

from __future__ import annotations

import argparse
import functools
import platform
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import vae_ext
from tests.cases import KL, MEASURED, Case, Quantity
from tests.exact import kl, value
from tests.inputs import Draw

from .measure import (
    HALF,
    Error,
    bulk,
    error,
    evaluate,
    exact_and_terms,
    limits,
    long_array,
    naive,
    spacing,
    used,
)
from .report import Row, sums, write

OTHERS = ["eager", "F", "distributions"]


def levels_of(dtype: torch.dtype, device: str) -> list[str]:
    """Half precision is float32's arithmetic, and float64 the C library's: one level shows them."""
    if device != "cpu":
        return [device]
    return vae_ext.simd_levels() if dtype is torch.float32 else vae_ext.simd_levels()[:1]


def measure(
    case: Case,
    quantity: Quantity,
    by: int | None,
    name: str,
    inputs: list[torch.Tensor],
    dtype: torch.dtype,
    device: str,
) -> Row:
    rounded = [t.to(dtype).to(device) for t in inputs]
    exact, terms = exact_and_terms(quantity, rounded)
    limit = limits(quantity, dtype, device)
    before = vae_ext.simd_level()
    ours: dict[str, Error] = {}
    for level in levels_of(dtype, device):
        if device == "cpu":
            vae_ext.set_simd_level(level)
        got = evaluate(case.elementwise, rounded, by)
        ours[level] = error(quantity, got, exact, terms, dtype, limit)
    vae_ext.set_simd_level(before)
    others = {
        other: error(
            quantity, evaluate(naive(case, other), rounded, by), exact, terms, dtype, limit
        )
        for other in case.naive
    }
    return Row(case, quantity, name, dtype, limit, ours, others)


def curve(n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The largest error of the KL at mu = 1e-3 in bins of |logvar|."""
    edges = np.logspace(-8, 1.9, 80)
    size = torch.logspace(-8, 1.9, n, dtype=torch.float64).float()
    logvar = torch.cat([size, -size])
    mu = torch.full_like(logvar, 1e-3)
    exact = bulk(functools.partial(value, kl), [mu, logvar])
    bins = np.digitize(logvar.abs().numpy(), edges)
    found = {}
    for name, function in {
        "vae_ext": KL.elementwise,
        "eager": naive(KL, "eager"),
        "distributions": naive(KL, "distributions"),
    }.items():
        off = np.abs(long_array(function(mu, logvar)) - exact) / spacing(exact, torch.float32)
        worst = [off[bins == b].max(initial=0) for b in range(1, len(edges))]
        found[name] = (np.sqrt(edges[1:] * edges[:-1]), np.array(worst, dtype=float))
    return found


def show(rows: list[Row]) -> None:
    table = Table("quantity", "inputs", "dtype", "unit", "limit", "vae_ext", *OTHERS)
    for row in rows:
        table.add_row(
            row.quantity.name,
            row.set,
            row.dtype_name,
            row.unit,
            f"{row.limit:.3g}",
            ("" if row.holds else "BROKEN ") + str(row.worst),
            *(str(row.others[o]) if o in row.others else "" for o in OTHERS),
        )
    Console(width=150).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--log2", type=int, default=20, help="elements of a set (default 2^20)")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"), help="where to write")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    n = 1 << args.log2
    sets = {case.name: case.sets(Draw(n // case.share)) for case in MEASURED}
    work = [
        (case, quantity, by, name, inputs, dtype, args.device)
        for case in MEASURED
        for quantity, by in case.quantities
        for dtype in (torch.float32, torch.float64, *reversed(HALF))
        for name, inputs in sets[case.name].items()
        if used(quantity, by, name, dtype)
    ]
    rows = [measure(*w) for w in track(work, description="measuring", transient=True)]
    totals = sums()
    show(rows)
    machine = f"{platform.machine()}, {platform.libc_ver()[0]}, torch {torch.__version__}"
    if args.device == "cuda":
        machine += f", {torch.cuda.get_device_name()}"
    write(args.out, rows, totals, curve(1 << 18), n, machine)
    broken = [r for r in rows if not r.holds] + [t for t in totals if not t.holds]
    print(f"{len(rows)} errors measured, {len(broken)} beyond the contract; see {args.out}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
