"""DTensors on two and four processes, against one: one start of them runs all of sharded_checks.py,
since that takes longer than most of the checks."""

from __future__ import annotations

import pytest

from tests import engine_checks, sharded_checks, trainer_checks
from tests.processes import spawn


def run(rank: int, world: int) -> None:
    sharded_checks.run(rank, world)
    if world > 1:
        engine_checks.run(rank, world)
        trainer_checks.run(rank, world)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_as_one_process(world: int, request: pytest.FixtureRequest) -> None:
    spawn(run, world, request.config.getoption("--cuda-on-host"))
