"""tools/bench_compare.py: what it says of times, and both sides' processes on this checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.bench_compare import Case, Comparison, Side, compare

ROOT = Path(__file__).resolve().parents[1]
KL = Case("kl", "16x20")


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([1.0, 1.01, 0.99, 1.0, 1.02], ""),  # within the least
        ([1.2, 1.3, 1.1, 1.2, 0.9], "slower"),  # four in five
        ([1.2, 1.3, 0.8, 1.2, 0.9], ""),  # three in five
        ([0.7, 0.7, 0.8, 0.7, 0.7], "faster"),
    ],
)
def test_what_moved(after: list[float], verdict: str) -> None:
    row = Comparison(KL, [1.0] * 5, after).row(0.03)
    assert row.split(")")[-1].strip() == verdict
    assert bool(verdict) == Comparison(KL, [1.0] * 5, after).moved(0.03)


def test_two_sides_take_turns() -> None:
    sides = Side(ROOT, 1), Side(ROOT, 1)
    (found,) = compare(sides, [KL], rounds=2)
    for side in sides:
        side.close()
        assert side.process.returncode == 0
    assert found.case == KL
    assert len(found.before) == len(found.after) == 2
    assert all(t > 0 for t in (*found.before, *found.after))
