"""A fault that is planted in one place."""

from __future__ import annotations

from typing import NamedTuple

from tools.builds import ROOT


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str  # those that should notice, the cheapest first; all of them stop at a failure
    vectors: bool = False  # whether it shows only where the compiler makes vectors of loops

    def fits(self) -> bool:
        return (ROOT / self.file).read_text().count(self.old) == 1

    def paths(self) -> list[str]:
        """Of the tests."""
        words = self.tests.split()
        return ["tests/accuracy" if w == "accuracy" else f"tests/test_{w}.py" for w in words]
