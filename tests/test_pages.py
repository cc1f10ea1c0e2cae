"""The code of the documentation runs, each page from its first block to its last, and the reference
has every public name with a formula and an example."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import vae_ext
from tests.rows import public
from vae_ext import distributions, estimators, nn, objectives, testing

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# What a page needs that `make check` does not install, or that has an environment of its own.
NEEDS = {"diffusers.md": "diffusers", "swap.md": "lightning", "single_cells.md": "scvi"}
# What readers see, and what a page has in a comment for the tests.
BLOCK = re.compile(r"^(?:```python|<!-- first)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)


def code_of(page: Path) -> str:
    """Its blocks as one program, on the lines that they have in the page."""
    text = page.read_text()
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        found = block[1].splitlines()
        lines[first : first + len(found)] = found
    return "\n".join(lines)


PAGES = [p for p in (*sorted(DOCS.rglob("*.md")), ROOT / "README.md") if code_of(p).strip()]


def usable(page: Path) -> bool:
    package = NEEDS.get(page.name) if page.parent != DOCS / "reference" else None
    return package is None or importlib.util.find_spec(package) is not None


@pytest.mark.parametrize(
    "page", [p for p in PAGES if usable(p)], ids=lambda p: f"{p.parent.name}/{p.stem}"
)
@pytest.mark.filterwarnings("ignore")  # of the packages that they use
def test_code_runs(page: Path) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    exec(compile(code_of(page), str(page), "exec"), {"__name__": "page"})


def test_there_are_pages() -> None:
    assert len(PAGES) > 20


REFERENCE = "\n".join(p.read_text() for p in sorted((DOCS / "reference").glob("*.md")))
DIRECTIVE = re.compile(r"\.\. auto(?:function|class):: (\S+)")
# Documented as members of their module.
MEMBERS = {f"vae_ext.nn.{name}" for name in public(nn)} - {"vae_ext.nn.MixturePrior"}


@pytest.mark.parametrize("module", [vae_ext, distributions, estimators, nn, objectives, testing])
def test_the_reference_is_whole(module: object) -> None:
    listed = {*DIRECTIVE.findall(REFERENCE), *MEMBERS}
    assert module.__name__  # type: ignore[attr-defined]
    for name in public(module):  # type: ignore[arg-type]
        if callable(getattr(module, name)):
            assert f"{module.__name__}.{name}" in listed, name  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=lambda p: p.stem)
def test_each_entry_has_a_formula_and_an_example(page: Path) -> None:
    """What a page says before its first entry is for all of them."""
    before, *entries = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    if page.stem == "index":
        return
    for entry in entries or [before]:
        name = entry.split("\n", 1)[0]
        assert BLOCK.search(entry), name
        if page.stem not in {"integrations", "tools"}:  # which compute nothing
            assert "$" in entry or "$" in before or "draws" in entry.lower(), name
