"""docs/accuracy.md: the tables and the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import vae_ext
from tests.arithmetic import LONG
from tests.cases import MEASURED, Case, Quantity
from tests.likelihood_cases import BERNOULLI

from .measure import Error, bulk, naive

HEAD = """# Accuracy

Written by `make accuracy`, which fails where a limit is broken; nothing here is typed in. Errors are
against the exact value of the same inputs, computed with 64 bits of mantissa (80-bit long double), which
the tests compare with 50 digits (`tests/accuracy/test_accuracy.py::test_the_oracle`). {n:,} elements a
set, {of_counts:,} of counts and of Student's t.

- **ulp** is the distance of neighbouring floats at the exact value; **u** is half of it at 1 (2⁻²⁴ in
  float32, 2⁻⁵³ in float64) times the sum of the absolute terms of the formula.
- Each cell is the largest error, with the mean in parentheses; "inf" is a result that is not finite where
  the exact one is. "F" is `torch.nn.functional`, "eager" the formula as it is usually written.
- float32 is measured at every instruction set, and "vae_ext" is the worst of them. float64 is held to the
  limits of float32 in its own units. Results in half precision are one rounding of a float32 result.

Measured on {machine}; by {levels}. (`make accuracy ARGS="--device cuda"` is for a machine with a GPU, whose
limits are the contract's for CUDA; what an H100 measured is on [its page](gpu.md).)
"""

EXCEPTIONS = """
## Special values

`test_special_values` runs every combination of ±0, subnormals, ±1, ±88.8, ±104, ±1e4, the largest float,
±inf and NaN (of eleven of these for the four arguments of a prior): NaN in gives NaN out, infinities give the limit where there is one, and results are finite
wherever the exact value is representable. The exceptions, all of them beyond any data:

- degrees of freedom of at most 1e-37 give NaN, and those beyond 1e30 count as 1e30;
- given noise whose square overflows counts as infinite in log q where the variance is 0;
- a difference `x - mean` or `mu - prior_mu` of finite numbers that overflows counts as infinite;
- a σ ε of given noise that overflows counts as infinite, too, even if `mu` would bring the sum back into
  range; with `mu` the other infinity it gives NaN;
- the gradient of `logvar` for given noise below 1.2e-38 has lost that noise's last bit.
"""


@dataclass(frozen=True)
class Row:
    case: Case
    quantity: Quantity
    set: str
    dtype: torch.dtype
    limit: float
    ours: dict[str, Error]
    others: dict[str, Error]

    @property
    def worst(self) -> Error:
        return max(self.ours.values(), key=lambda e: e.max)

    @property
    def holds(self) -> bool:
        return self.worst.max <= self.limit

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def unit(self) -> str:
        return self.quantity.unit


@dataclass(frozen=True)
class Total:
    """A reduced result: the error relative to the sum of the absolute terms."""

    name: str
    ours: float
    eager: float
    limit: float = 5e-7

    @property
    def holds(self) -> bool:
        return self.ours <= self.limit


def sums() -> list[Total]:
    """Reductions of up to 1e8 elements; float32 results, whatever the inputs."""
    found = []
    for name, shape, dtype in (
        ("1e8 elements, float32", (10, 10_000_000), torch.float32),
        ("one event of 1e7, float32", (1, 10_000_000), torch.float32),
        ("1e5 events of 100, float32", (100_000, 100), torch.float32),
        ("one event of 1e7, bfloat16", (1, 10_000_000), torch.bfloat16),
        ("one event of 1e7, float16", (1, 10_000_000), torch.float16),
    ):
        generator = torch.Generator().manual_seed(0)
        x = (3 * torch.randn(shape, generator=generator)).to(dtype)
        t = torch.rand(shape, generator=generator).to(dtype)
        reduction = "sum" if "1e8" in name else "event"
        got = vae_ext.bernoulli_log_likelihood(x, t, reduction=reduction)
        assert got.dtype == torch.float32
        plain = naive(BERNOULLI, "F")(x, t)
        eager = plain.sum() if reduction == "sum" else plain.sum(1)
        rows = max(1, 1_000_000 // shape[1])
        totals = []
        for at in range(0, shape[0], rows):
            pieces = zip(
                x[at : at + rows].split(1_000_000, 1),
                t[at : at + rows].split(1_000_000, 1),
                strict=True,
            )
            terms = [
                bulk(BERNOULLI.value.value, [a.contiguous(), b.contiguous()]) for a, b in pieces
            ]
            totals.append(sum(v.sum(1) for v in terms))
        exact = np.concatenate(totals)
        if reduction == "sum":
            exact = exact.sum()

        def off(result: torch.Tensor, exact: np.ndarray = exact) -> float:
            value = result.double().numpy().astype(LONG)
            return float(np.max(np.abs(value - exact) / np.abs(exact)))  # terms of one sign

        found.append(Total(name, off(got), off(eager)))
    return found


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def markdown(rows: list[Row], totals: list[Total], n: int, machine: str) -> str:
    levels = list(max((r.ours for r in rows), key=len))
    lines = [HEAD.format(n=n, of_counts=n // 8, machine=machine, levels=", ".join(levels))]
    for case in MEASURED:
        others = list(case.naive)
        lines += [f"## {case.title}", ""]
        header = ["quantity", "inputs", "dtype", "unit", "limit", "vae_ext", *others]
        body = [
            [
                row.quantity.name,
                row.set,
                row.dtype_name,
                row.unit,
                f"{row.limit:.3g}",
                f"**{row.worst}**",
                *(str(row.others[o]) for o in others),
            ]
            for row in rows
            if row.case is case
        ]
        lines += [*table(header, body), ""]
    lines += ["## float32 by instruction set", ""]
    body = [
        [r.case.name, r.quantity.name, r.set, r.unit, f"{r.limit:.3g}"]
        + [str(r.ours[level]) for level in levels]
        for r in rows
        if r.dtype is torch.float32
    ]
    lines += [*table(["op", "quantity", "inputs", "unit", "limit", *levels], body), ""]
    lines += ["## Sums", "", "Bernoulli log-likelihoods; the error is relative to Σ |terms|.", ""]
    body = [[t.name, f"{t.limit:.0e}", f"**{t.ours:.2g}**", f"{t.eager:.2g}"] for t in totals]
    lines += table(["sum", "limit", "vae_ext", "`F` and `.sum()`"], body)
    lines += [EXCEPTIONS, "![error against logvar](pictures/accuracy.png)", ""]
    return "\n".join(lines)


def write(
    out: Path,
    rows: list[Row],
    totals: list[Total],
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    n: int,
    machine: str,
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    (out / "pictures").mkdir(parents=True, exist_ok=True)
    (out / "accuracy.md").write_text(markdown(rows, totals, n, machine))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, (x, y) in curves.items():
        axes.loglog(x, np.maximum(y, 0.1), label=name, linewidth=2 if name == "vae_ext" else 1.2)
    axes.axhline(4, color="grey", linestyle=":", linewidth=1)
    axes.annotate("contract: 4 ulp", (2e-8, 4.6), color="grey")
    axes.set_xlabel("|logvar|")
    axes.set_ylabel("largest error, ulp")
    axes.set_title("float32 KL(N(1e-3, exp(logvar)) ‖ N(0, 1))")
    axes.legend()
    axes.grid(True, alpha=0.3)
    figure.savefig(out / "pictures/accuracy.png", dpi=120)
