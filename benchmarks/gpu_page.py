"""The tables of docs/gpu.md, from the committed results: what a card measured, and beside it what
the emulator had predicted at best.

    python -m benchmarks.gpu_page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .table import document, filled, gain, lines, spread

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/gpu.md"
RESULTS = ROOT / "benchmarks/results/h100.json"
COUNTERS = ROOT / "benchmarks/results/h100-counters.json"
COPY = 3.0e12  # bytes a second, read and written


def gains(baseline: str) -> str:
    """Of the tensors of 2^24 elements and more, in any op and dtype: the least and the most."""
    rows = json.loads(RESULTS.read_text())["results"]
    return spread((r for r in rows if r["rows"] * r["columns"] >= 1 << 24), baseline)


def instructions(kernel: dict[str, Any]) -> float:
    """That a thread executes for an element."""
    found: float = 32 * kernel["instructions"] / (kernel["rows"] * kernel["columns"])
    return found


def steps(document: dict[str, Any]) -> str:
    """Forward and backward, beside what people write."""
    rows = []
    for r in document["results"]:
        times = {name: t["p50"] for name, t in r["times"].items()}
        ours, copy = times["vae_ext"], times["copy"]
        others = [f"{times[b] / ours:.1f}" for b in ("eager", "distributions", "compile")]
        size = f"{r['rows']} × {r['columns']}"
        rows.append(
            [r["op"], r["dtype"], size, f"{ours:.3f}", f"{100 * copy / ours:.0f} %", *others]
        )
    head = ["op", "dtype", "size", "ms", "of a copy", "eager", "distributions", "compile"]
    return lines([*head[:5], *(f"{b} / ours" for b in head[5:])], rows, 3)


def kernels(document: dict[str, Any]) -> str:
    """Each kernel of those steps at the large size: what it reached, and its ceiling."""
    rows = []
    for k in document["kernels"]:
        if k["nanoseconds"] < 20_000:  # those that have next to nothing to do
            continue
        elements = k["rows"] * k["columns"]
        moved = (k["read"] + k["written"]) / k["nanoseconds"] * 1e9
        issue = 128 * 132 * 1.755e9 / instructions(k)  # elements a second
        ceiling = min(1.0, issue * (k["read"] + k["written"]) / elements / COPY)
        name = k["kernel"].split("_kernel")[0]
        rows.append(
            [
                k["op"],
                k["dtype"],
                name,
                f"{instructions(k):.1f}",
                f"{k['registers']:.0f}",
                f"{k['warps %']:.0f} %",
                f"{k['issue %']:.0f} %",
                f"{100 * ceiling:.0f} %",
                f"{100 * moved / COPY:.0f} %",
            ]
        )
    head = ["op", "dtype", "kernel", "instructions", "registers", "warps", "issue slots"]
    return lines([*head, "ceiling", "reached"], rows, 3)


def parameters() -> str:
    """The ops whose elements have several parameters, and steps of models with them."""
    rows = []
    for r in (*document("h200-images")["results"], *document("h200-priors")["results"]):
        others = [f"{gain(r, b):.1f}" for b in ("eager", "compile")]
        rows.append([r["what"], f"{r['times']['vae_ext']['p50']:.2f}", *others])
    return lines(["", "ms", "eager / ours", "compile / ours"], rows, 1)


def page(text: str) -> str:
    measured, counted = (json.loads(file.read_text()) for file in (RESULTS, COUNTERS))
    tables = {
        "steps": lambda: steps(measured),
        "kernels": lambda: kernels(counted),
        "parameters": parameters,
    }
    return filled(text, tables)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
