"""Measured results as rows of the pages' tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def document(name: str) -> dict[str, Any]:
    """A committed file of results."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def gain(row: dict[str, Any], baseline: str) -> float:
    """How many times longer another takes."""
    times = row["times"]
    found: float = times[baseline]["p50"] / times["vae_ext"]["p50"]
    return found


def spread(rows: Iterable[dict[str, Any]], baseline: str) -> str:
    """The same of several, at the least and at the most."""
    gains = [gain(row, baseline) for row in rows]
    return f"{min(gains):.1f} to {max(gains):.1f} ×"


def instructions() -> dict[str, float]:
    """Of a CPU's kernels: the budget of `make count`."""
    file = RESULTS.parents[1] / "tools/instructions.json"
    found: dict[str, float] = json.loads(file.read_text())["instructions"]
    return found


def lines(head: list[str], rows: list[list[str]], left: int) -> str:
    """A table, whose first columns, so many, are words and whose others are numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def filled(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A page with each table between the marks that bear its name."""
    for mark, table in tables.items():
        begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table()}\n\n{end}{rest.split(end)[1]}"
    return text


def training_rows(steps: list[dict[str, Any]]) -> list[str]:
    found = []
    for s in steps:
        usual, ours, none = (s["times"][n]["p50"] for n in ("eager", "vae_ext", "none"))
        peak = [s["peak_bytes"][n] / 1e6 for n in ("eager", "vae_ext")]
        cells = [s["model"], f"{usual:.2f}", f"{ours:.2f}", f"{100 * (usual - none) / usual:.0f} %"]
        cells += [f"{usual / ours:.2f}", *[f"{p:.1f}" for p in peak]]
        found.append(f"| {' | '.join(cells)} |")
    return found


SCVI_HEAD = """| of scvi-tools, milliseconds | usual | compiled | vae_ext | gain | over compiled |
| --- | --- | --- | --- | --- | --- |"""


def scvi_row(result: dict[str, Any]) -> str:
    """Medians, with their spread, of what benchmarks/scvi_step.py measured."""
    times = result["times"]
    cells = [
        f"{'the loss' if result['what'] == 'loss' else 'a training step'}, {result['law']}, "
        f"{result['cells']} × {result['genes']:,}, {100 * result['zeros']:.0f} % zeros"
    ]
    for name in ("eager", "compile", "vae_ext"):
        cells.append("{p50:.1f} ({p20:.1f}–{p80:.1f})".format(**times[name]))
    for name in ("eager", "compile"):
        cells.append(f"{times[name]['p50'] / times['vae_ext']['p50']:.1f} ×")
    return f"| {' | '.join(cells)} |"


def patch_row(result: dict[str, Any]) -> str:
    """Likewise of benchmarks/patches.py."""
    times = result["times"]
    usual, patched, fused = (times.get(n) for n in ("usual", "patched", "patched, fused noise"))
    cells = ["{p50:.2f} ({p20:.2f}–{p80:.2f})".format(**t) for t in (usual, patched)]
    gain = f"{usual['p50'] / patched['p50']:.2f} ×"
    if fused:
        gain += f" ({usual['p50'] / fused['p50']:.2f} × with fused noise)"
    return f"| {' | '.join([result['what'], *cells, gain])} |"


def region_row(result: dict[str, Any]) -> str:
    """Likewise of benchmarks/regions.py."""
    whole, region = (result["times"][n] for n in ("whole", "region"))
    cells = ["{p50:.2f} ({p20:.2f}–{p80:.2f})".format(**t) for t in (whole, region)]
    return f"| {' | '.join([result['what'], *cells])} | {region['p50'] / whole['p50']:.2f} × |"


def environment_row(result: dict[str, Any]) -> str:
    """Likewise of benchmarks/environments.py: ours in milliseconds, and eager's to it."""
    cells = [result["what"]]
    for times in result["times"].values():
        ours, eager = times["vae_ext"], times["eager"]
        cells += [
            "{p50:.3g} ({p20:.3g}–{p80:.3g})".format(**ours),
            f"{eager['p50'] / ours['p50']:.1f}",
        ]
    return f"| {' | '.join(cells)} |"


def slower(results: list[dict[str, Any]]) -> list[str]:
    """The cells in which another contender was faster by more than the clock's noise, 3 %."""
    found = []
    for r in results:
        times = {name: t["p50"] for name, t in r["times"].items()}
        ratios = {n: times[n] / times["vae_ext"] for n in ("eager", "compile")}
        where = f"{r['op']} {r['rows']} × {r['columns']}"
        found += [f"{where} ({n} {ratio:.2f} ×)" for n, ratio in ratios.items() if ratio < 0.97]
    return found
