"""A fault that is planted in one place."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str  # those that should notice, the cheapest first; all of them stop at a failure
    vectors: bool = False  # whether it shows only where the compiler makes vectors of loops
