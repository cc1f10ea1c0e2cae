"""The counts of instructions: what is read of callgrind, and that each kernel is among them."""

from __future__ import annotations

import json
import re

from tools import count
from vae_ext._formulas import FORMULAS, GROUPS

DUMP = """# callgrind format
part: {part}

desc: Trigger: Client Request: {name}

summary: {total}
"""


def test_parse() -> None:
    dumps = [
        DUMP.format(part=2, name="sum", total=512),
        DUMP.format(part=1, name="load, far", total=64),
        "part: 3\ndesc: Trigger: Program termination\nsummary: 99\n",
    ]
    assert list(count.parse(dumps).items()) == [("load, far", 0.25), ("sum", 2.0)]


def test_compare() -> None:
    budget = {"a": 10.0, "b": 10.0, "gone": 1.0}
    complaints = count.compare({"a": 10.2, "b": 10.4, "new": 1.0}, budget)
    assert [text.split(":")[0] for text in complaints] == ["gone", "b", "new"]
    assert not count.compare({"a": 9.0}, {"a": 10.0})


def test_every_formula_is_in_the_budget() -> None:
    names = json.loads(count.BUDGET.read_text())["instructions"]
    for formula in FORMULAS:
        name = formula.op.removesuffix("_log_likelihood")
        for kind in ("value", "gradients", "both"):
            assert f"{name} {kind}" in names
    for group in GROUPS:
        name = group.op.removesuffix("_log_likelihood")
        assert {f"{name} value", f"{name} both"} <= set(names)


def test_the_size_of_a_tile() -> None:
    header = (count.ROOT / "csrc/cpu/kernels.h").read_text()
    assert re.search(r"kTile = (\d+)", header).group(1) == str(count.TILE)  # type: ignore[union-attr]
