"""What the noise of a region costs the CPU beside that of a whole: for docs/many_processes.md.

    python -m benchmarks.regions --out out/regions.json

Sample and KL, forward and backward, of as many elements with `region=` and without, in turn.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import vae_ext
from vae_ext import Region

from . import report
from .harness import Step
from .table import region_row

WHOLE = (64, 64, 64, 64)
# Of two or more ranks' parts of the whole, one.
BOXES = {
    "half of the batch": ((32, 64, 64, 64), (32, 0, 0, 0)),
    "half of the channels": ((64, 32, 64, 64), (0, 32, 0, 0)),
    "half of the rows": ((64, 64, 32, 64), (0, 0, 32, 0)),
    "21 of the rows, from row 22": ((64, 64, 21, 64), (0, 0, 22, 0)),
    "half of each row, 32 elements": ((64, 64, 64, 32), (0, 0, 0, 32)),
    "16 elements of each row": ((64, 64, 64, 16), (0, 0, 0, 16)),
    "8 elements of each row": ((64, 64, 64, 8), (0, 0, 0, 8)),
    "7 elements of each row, from the third": ((64, 64, 64, 7), (0, 0, 0, 3)),
}


def steps(shape: tuple[int, ...], start: tuple[int, ...]) -> dict[str, Step]:
    mu, logvar = (torch.randn(shape, requires_grad=True) for _ in range(2))

    def of(region: Region | None) -> Step:
        def step() -> tuple[Tensor, ...]:
            z, kl = vae_ext.reparameterize_with_kl(
                mu, logvar, seed=1, region=region, reduction="sum"
            )
            return torch.autograd.grad((z, kl), (mu, logvar), (mu.detach(), torch.ones(())))

        return step

    return {"whole": of(None), "region": of(Region(WHOLE, start))}


CASES = {what: partial(steps, *box) for what, box in BOXES.items()}

if __name__ == "__main__":
    report.run(report.parse(__doc__), CASES, region_row)
