"""The tables of docs/cpu.md, docs/gains.md and the README, from the committed results.

python -m benchmarks.cpu_page
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .gains import by_kind
from .table import (
    SCVI_HEAD,
    document,
    environment_row,
    filled,
    gain,
    instructions,
    lines,
    scvi_row,
    slower,
    training_rows,
)

ROOT = Path(__file__).resolve().parent.parent
LEVELS = {"avx512": "AVX-512", "avx2": "AVX2"}
Row = dict[str, Any]


def results(kind: str) -> dict[str, list[Row]]:
    """Of each instruction set, in the same order."""
    return {level: document(f"cpu-{level}-{kind}")["results"] for level in LEVELS}


def size(row: Row) -> str:
    return f"{row['rows']} × {row['columns']}"


def ratio(row: Row, baseline: str) -> str:
    return f"{gain(row, baseline):.1f}"


def speed() -> str:
    """Milliseconds, how many times longer others take, and a copy's part, on both."""
    baselines = ("eager", "distributions", "compile")
    head, rows = ["op", "size"], []
    for name in LEVELS.values():
        head += [f"{name}: ms", *(f"{b} / ours" for b in baselines), "copy"]
    for pair in zip(*results("float32").values(), strict=True):
        cells = [pair[0]["op"], size(pair[0])]
        for row in pair:
            times = row["times"]
            cells.append(f"{times['vae_ext']['p50']:.3f}")
            cells += [ratio(row, b) for b in baselines]
            cells.append(f"{100 * times['copy']['p50'] / times['vae_ext']['p50']:.0f} %")
        rows.append(cells)
    return lines(head, rows, 2)


def where_it_loses() -> str:
    found = results("float32")
    return "\n".join(
        f"- {name}: {'; '.join(slower(found[level])) or 'nowhere'}."
        for level, name in LEVELS.items()
    )


def halves() -> str:
    """The times of 256 × 16384 as parts of float32's."""
    head = ["op"]
    rows: dict[str, list[str]] = {}
    for level, found in results("halves").items():
        ours = {(r["op"], r["dtype"]): r["times"]["vae_ext"]["p50"] for r in found}
        for dtype in ("bfloat16", "float16"):
            head.append(f"{LEVELS[level]}: {dtype}")
            for op in dict.fromkeys(r["op"] for r in found):
                cell = f"{ours[op, dtype] / ours[op, 'float32']:.2f}"
                rows.setdefault(op, [op]).append(cell)
    return lines(head, list(rows.values()), 1)


def strongest() -> str:
    head = ["op", "size", *(f"{name}: strongest / ours" for name in LEVELS.values())]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for level, found in results("strongest").items():
        for row in found:
            rows.setdefault((row["op"], size(row)), {})[level] = ratio(row, "compile-max")
    cells = [[*where, *(of.get(level, "aborts") for level in LEVELS)] for where, of in rows.items()]
    return lines(head, cells, 2)


def training() -> str:
    head = ["model", "usual loss", "vae_ext", "share of the loss", "usual / vae_ext"]
    head += ["peak, usual", "peak, vae_ext"]
    rows = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head))]
    return "\n".join(rows + training_rows(document("training-avx512")["training"]))


def single_cells() -> str:
    return "\n".join([SCVI_HEAD, *map(scvi_row, document("scvi-2-threads")["results"])])


def losses(name: str, what: str) -> str:
    """Of images.py, priors.py and models.py: the loss alone, and steps with its share. Where there
    is a copy of what the loss must move, its part of our time."""
    head, rows = [what], []
    found = [document(f"{name}-{level}")["results"] for level in LEVELS]
    copies = any("copy" in row["times"] for row in found[0])
    for level in LEVELS.values():
        head += [f"{level}: ms", *(f"{b} / ours" for b in ("eager", "compile")), "usual share"]
        head += ["copy"] * copies
    for pair in zip(*found, strict=True):
        cells = [pair[0]["what"]]
        for row in pair:
            times = row["times"]
            cells.append(f"{times['vae_ext']['p50']:.1f}")
            cells += [ratio(row, b) for b in ("eager", "compile")]
            without = times.get("none", {"p50": 0.0})["p50"]
            cells.append(f"{100 * (1 - without / times['eager']['p50']):.0f} %")
            if copies:
                copy = times.get("copy", {"p50": 0.0})["p50"]
                cells.append(f"{100 * copy / times['vae_ext']['p50']:.0f} %" if copy else "–")
        rows.append(cells)
    return lines(head, rows, 1)


def environments() -> str:
    found = document("environments")["results"]
    head = ["environment"]
    for step in found[0]["times"]:
        head += [f"{step}: ms", "eager / ours"]
    rule = ["---", *["---:"] * (len(head) - 1)]
    rows = [f"| {' | '.join(cells)} |" for cells in (head, rule)]
    return "\n".join([*rows, *map(environment_row, found)])


COUNTED = (
    *("noise", "sum", "reparameterize", "reparameterize with kl", "reparameterize with kl dscale"),
    *(f"standard gaussian_kl {kind}" for kind in ("value", "gradients", "both")),
    "standard gaussian_kl value, far scale",
    *(f"gaussian_kl {kind}" for kind in ("value", "gradients")),
    *(f"{name} both" for name in ("bernoulli", "gaussian", "laplace")),
    *(
        f"{name} both, {which} targets 0"
        for name in ("poisson", "negative_binomial")
        for which in ("few", "most")
    ),
    *("student_t both", "categorical both", "discretized_logistic_mixture both"),
    *("mixture value", "mixture gradient by z", "mixture gradients by parameters"),
    *(f"{way} {dtype}" for dtype in ("bfloat16", "float16") for way in ("load", "store")),
)


def counts() -> str:
    found = instructions()
    rows = [[name, f"{found[name]:.1f}"] for name in COUNTED]
    return lines(["kernel", "instructions for an element"], rows, 1)


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"gains": by_kind},
    "docs/gains.md": {"gains": by_kind, "scvi": single_cells, "training": training},
    "docs/cpu.md": {
        "speed": speed,
        "losses": where_it_loses,
        "strongest": strongest,
        "halves": halves,
        "pixels": lambda: losses("images", "of 32 × 32 pixels, 3 channels"),
        "priors": lambda: losses("priors", "events × dimensions"),
        "models": lambda: losses("models", "of importance weights, and of texts"),
        "environments": environments,
        "counts": counts,
    },
}


def page(name: str, text: str) -> str:
    return filled(text, TABLES[name])


if __name__ == "__main__":
    for name in TABLES:
        path = ROOT / name
        path.write_text(page(name, path.read_text()))
