"""The measured numbers in the text of README and pages, from the committed results: each stands
between <!-- = its name --> and <!-- = -->.

    python -m benchmarks.numbers          # writes them
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import gpu_page
from .table import document, gain, instructions, spread

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- = (?P<name>[^>]+?) -->)(?P<value>.*?)(<!-- = -->)", re.DOTALL)

Row = dict[str, Any]


def row_of(file: str, **where: object) -> Row:
    (found,) = (
        r
        for r in document(file)["results"]
        if all(r.get(key) == value for key, value in where.items())
    )
    return found  # type: ignore[no-any-return]


def microseconds(contender: str, **where: object) -> str:
    times = row_of("cpu-avx2-float32", **where)["times"]
    return f"{1e3 * times[contender]['p50']:.0f} µs"


def counted(kernel: str) -> str:
    return f"{instructions()[kernel]:.1f} instructions"


def variance(estimator: str) -> str:
    """How many times that of the reparameterized estimate, in two digits."""
    panel = document("gradient-variance")["latent dimensions (L = 8)"]
    at = panel["at"].index(32)
    found = {name: values[at] for name, values in panel["variances"].items()}
    times = found[estimator] / found["reparameterized, SGVB A"]
    return f"{float(f'{times:.2g}'):,.0f} times"


def on_h100(baseline: str, op: str, dtype: str, rows: int, columns: int) -> float:
    return gain(row_of("h100", op=op, dtype=dtype, rows=rows, columns=columns), baseline)


def pixels(kind: str, baseline: str) -> str:
    """Of the loss alone, by AVX-512 and by AVX2."""
    found = [gain(row_of(f"images-{level}", what=kind), baseline) for level in ("avx512", "avx2")]
    return f"{found[0]:.1f} and {found[1]:.1f} ×"


CLASSES = "256 classes, the loss of 16"


def pixels_bound() -> str:
    """What a loss would gain over the compiled one that takes no longer than a copy."""
    found = []
    for level in ("avx512", "avx2"):
        times = row_of(f"images-{level}", what=CLASSES)["times"]
        found.append(f"{times['compile']['p50'] / times['copy']['p50']:.1f}")
    return f"{' and '.join(found)} ×"


def of_eager(op: str, rows: int, columns: int) -> str:
    """Our part of eager's time on the H100, in either dtype."""
    found = [1 / on_h100("eager", op, dtype, rows, columns) for dtype in ("float32", "bfloat16")]
    return f"{min(found):.1f} to {max(found):.1f}"


def by_the_counters(op: str) -> str:
    """Of the largest kernel of an op on the H200, for an element."""
    kernels = (k for k in document("h200-counters")["kernels"] if k["op"] == op)
    largest = max(gpu_page.instructions(k) for k in kernels)
    return f"{largest:.0f} instructions"


SMALL = {"op": "bernoulli", "rows": 1, "columns": 1}
VALUES: dict[str, Callable[[], str]] = {
    "GPU, eager": lambda: gpu_page.gains("eager"),
    "GPU, compiled": lambda: gpu_page.gains("compile"),
    **{
        f"{title}, {baseline}": lambda file=file, b=baseline: spread(document(file)["results"], b)  # type: ignore[misc]
        for title, file in (
            ("continuous Bernoulli", "cpu-avx2-continuous-bernoulli"),
            ("Student's t", "cpu-avx2-student-t"),
        )
        for baseline in ("eager", "distributions", "compile")
    },
    "KL, instructions": lambda: counted("standard gaussian_kl value"),
    "sum, instructions": lambda: counted("sum"),
    "load bfloat16": lambda: counted("load bfloat16"),
    "store bfloat16": lambda: counted("store bfloat16"),
    "one element, eager": lambda: microseconds("eager", **SMALL),
    "one element": lambda: microseconds("vae_ext", **SMALL),
    "sample and KL, 128 × 20": lambda: microseconds(
        "vae_ext", op="sample_kl", rows=128, columns=20
    ),
    "score function": lambda: variance("score function"),
    "leave-one-out": lambda: variance("score function, leave-one-out"),
    "classes, compile / copy": pixels_bound,
    "classes, compile / ours": lambda: pixels(CLASSES, "compile"),
    "logistic mixture, compile": lambda: pixels("logistic mixture, the loss of 32", "compile"),
    "H200, classes": lambda: by_the_counters("classes"),
    "H100, sample of 128 × 20": lambda: of_eager("sample", 128, 20),
    "H100, KL, float32": lambda: f"{on_h100('compile', 'kl', 'float32', 16384, 16384):.2f} ×",
    "H100, KL, bfloat16": lambda: f"{on_h100('compile', 'kl', 'bfloat16', 16384, 16384):.2f} ×",
}


def filled(text: str) -> str:
    return MARKED.sub(lambda m: f"{m[1]}{VALUES[m['name']]()}{m[4]}", text)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text()))
