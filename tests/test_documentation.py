"""Every public name has the documentation that a stranger needs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import vae_ext
from benchmarks import cpu_page, gpu_page, numbers, table
from tests.rows import public
from tests.test_modes import FORWARD
from tests.test_onnx import REFUSED as ONNX_REFUSED
from vae_ext import distributions, estimators, nn, objectives, testing
from vae_ext.integrations import diffusers

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
MODULES: list[ModuleType] = [vae_ext, distributions, estimators, nn, objectives, testing, diffusers]
# What is no quantity: how it is computed, and a tuple of results.
OTHERS = {"KLParts", "Samples", "patch", "set_simd_level", "simd_level", "simd_levels"}
UNITLESS = {
    *("philox_words", "standard_normal", "reparameterize", "active_units", "balanced_sum"),
    *("Region", "sample_discretized_logistic_mixture"),
    *("linear_warmup", "cosine_warmup", "cyclical_warmup", "BugForBugDistribution"),
}
NAMES = [
    (module, name)
    for module in MODULES
    for name in public(module)
    if callable(getattr(module, name)) and name not in OTHERS
]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda v: getattr(v, "__name__", v))
def test_docstring(module: ModuleType, name: str) -> None:
    text = inspect.getdoc(getattr(module, name)) or ""
    for part in ("Source", "Raises"):
        assert part in text, f"{name} does not say its {part}"
    if name not in UNITLESS:
        assert "nats" in text, f"{name} does not say its unit"
    if not name.endswith("warmup"):
        shapes = ("[", "shape")
        assert any(s in text for s in shapes), f"{name} does not say its shapes"


def test_refusals_are_listed() -> None:
    """Each error that a mode ends in is on the page of modes."""
    page = (ROOT / "docs/modes.md").read_text()
    for message in (
        FORWARD,
        *ONNX_REFUSED.values(),
        "was a torch.fx.Proxy",
        "was a nested tensor, expected a dense one",
        "was a FakeTensor and logvar was not",
        "target had the value",
        "each draw serves one estimate",
    ):
        assert message in page, message


def test_there_are_names() -> None:
    assert len(NAMES) > 30


@pytest.mark.parametrize(
    ("page", "results", "row"),
    [
        ("docs/gains.md", "scvi-2-threads.json", table.scvi_row),
        ("docs/integrations.md", "patches-2-threads.json", table.patch_row),
        ("docs/many_processes.md", "regions-2-threads.json", table.region_row),
    ],
)
def test_tables_are_the_results(page: str, results: str, row: Callable[[Any], str]) -> None:
    """Measured rows are in their page as they were measured."""
    text = (ROOT / page).read_text()
    measured = json.loads((ROOT / "benchmarks/results" / results).read_text())["results"]
    for result in measured:
        assert row(result) in text


def test_the_page_of_the_gpu() -> None:
    """As `python -m benchmarks.gpu_page` writes it from the results."""
    text = gpu_page.PAGE.read_text()
    assert gpu_page.page(text) == text
    for baseline in ("eager", "compile"):
        assert gpu_page.gains(baseline) in README.replace("\n", " ")


@pytest.mark.parametrize("name", cpu_page.TABLES)
def test_the_tables_of_the_cpu(name: str) -> None:
    """As `python -m benchmarks.cpu_page` writes them from the results."""
    text = (ROOT / name).read_text()
    assert cpu_page.page(name, text) == text


# Numbers with a unit that are no measurements: limits, quantiles, definitions.
NO_MEASUREMENTS = {
    "README.md": (),
    "docs/cpu.md": (
        "noise, 3 %",
        "costs more than 3 % of",
        "0.25 %",
        "from 32 MB on",
        "of 2 MB",
        "take 80 instructions",
    ),
    "docs/gains.md": ("0.25 %",),
    "docs/emulator.md": (
        "to\n0.01 %",
        "costs more than 3 %",
        "can reach 95 %",
        "is 10 instructions",
    ),
    "docs/gpu.md": ("80GB", "reaches 100 %"),
    "docs/integrations.md": ("80 % quantiles",),
    "docs/rng-battery.md": ("0.5 %", "0.00005 %"),
}
UNITS = r"(?:×(?! ?\d)|%|µs\b|ms\b|MB\b|GB\b|instructions\b|times\b)"
MEASURED = re.compile(rf"(?<![\d×] )\d[\d.,]*(?: (?:to|and) \d[\d.,]*)? ?{UNITS}")


@pytest.mark.parametrize("page", numbers.pages(), ids=lambda path: path.name)
def test_numbers_are_read_from_results(page: Path) -> None:
    """As `python -m benchmarks.numbers` writes them; and what looks like a measurement in the text
    is one of them. Tables are held to their results above."""
    text = page.read_text()
    assert numbers.filled(text) == text
    assert not re.search(r"^\s*<!-- =", text, re.MULTILINE), "a line that begins so is no text"
    name = str(page.relative_to(ROOT))
    plain = re.sub(
        r"```.*?```|<!-- (\w[\w -]*) -->.*?<!-- end of \1 -->", "", text, flags=re.DOTALL
    )
    plain = numbers.MARKED.sub("", plain)
    for exempt in NO_MEASUREMENTS.get(name, ()):
        assert exempt in plain, f"{exempt!r} is no longer there"
        plain = plain.replace(exempt, "")
    lines = [line for line in plain.splitlines() if not line.startswith(("|", "    "))]
    assert not MEASURED.findall("\n".join(lines))


PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_rows_are_in_a_table(page: Path) -> None:
    """A line between the head of a table and its rows, a comment even, makes text of the rows."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    lines = [line for line in page.read_text().splitlines() if re.match(r"\s*\|.*\|$", line)]
    rendered = markdown.render(page.read_text())
    # Each line but those under the heads is a row.
    assert rendered.count("<tr>") == len(lines) - rendered.count("<table>")
