"""Spatial parallelism: each rank has some rows of every image, and of its latent.

    torchrun --nproc-per-node 2 examples/distributed/spatial.py --steps 30

What a convolution needs of its neighbours' rows (the halo) they send each other. Of the noise
nothing is sent: `region=` says which rows of the latent a rank has. The sums over an event are
parts, too, and count as they are: `count=` is the number of images.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import torch
import torch.distributed as dist
from common import compare, images, part, processes, total, update
from torch import Tensor, nn

import vae_ext

BATCH, HEIGHT, WIDTH, LATENT, SEED = 4, 18, 12, 3, 1234  # rows divide unevenly among four ranks
LIMITS = {"float64": 1e-12, "float32": 1e-5}


def exchange(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Sends rows to the neighbours, and gives what they sent; zeros at the image's edges."""
    rank, world = dist.get_rank(), dist.get_world_size()
    from_above, from_below = torch.zeros_like(up), torch.zeros_like(down)
    operations = []
    for send, receive, peer in ((up, from_above, rank - 1), (down, from_below, rank + 1)):
        if 0 <= peer < world:
            operations.append(dist.P2POp(dist.isend, send.contiguous(), peer))
            operations.append(dist.P2POp(dist.irecv, receive, peer))
    for work in dist.batch_isend_irecv(operations) if operations else []:
        work.wait()
    return from_above, from_below


class Halo(torch.autograd.Function):
    """Rows with one more on each side: the neighbours' nearest."""

    @staticmethod
    def forward(_: Any, rows: Tensor) -> Tensor:
        above, below = exchange(rows[..., :1, :], rows[..., -1:, :])
        return torch.cat((above, rows, below), -2)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Any:
        # The gradients of the rows that were lent go back to where these are.
        above, below = exchange(grad[..., :1, :], grad[..., -1:, :])
        own = grad[..., 1:-1, :].clone()
        own[..., :1, :] += above
        own[..., -1:, :] += below
        return own


class Conv(nn.Conv2d):
    """3 × 3, over the rows of all ranks."""

    def __init__(self, inputs: int, outputs: int, halo: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=(0, 1) if halo else 1)
        self.halo = halo

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(Halo.apply(x) if self.halo else x)


class VAE(nn.Module):
    def __init__(self, halo: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Conv(1, 8, halo), nn.Tanh(), Conv(8, 2 * LATENT, halo))
        self.decoder = nn.Sequential(Conv(LATENT, 8, halo), nn.Tanh(), Conv(8, 1, halo))

    def forward(self, x: Tensor, step: int, first_row: int) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z, kl = vae_ext.reparameterize_with_kl(
            mu,
            logvar,
            seed=SEED,
            stream=step,
            region=vae_ext.Region((BATCH, LATENT, HEIGHT, WIDTH), (0, 0, first_row, 0)),
            reduction="batchmean",
            count=BATCH,
        )
        logits = self.decoder(z)
        return kl - vae_ext.bernoulli_log_likelihood(logits, x, reduction="batchmean", count=BATCH)


def train(steps: int, dtype: str) -> float:
    stored = getattr(torch, dtype)
    torch.manual_seed(0)
    alone = VAE(halo=False).to(stored)
    together = VAE(halo=True).to(stored)
    together.load_state_dict(copy.deepcopy(alone.state_dict()))
    x = images(BATCH, 1, HEIGHT, WIDTH).to(stored)
    first, last = part(HEIGHT)
    optimizers = [torch.optim.Adam(m.parameters(), 1e-2) for m in (alone, together)]

    def one(step: int) -> Tensor:
        loss: Tensor = alone(x, step, 0)
        update(loss, optimizers[0])
        return loss

    def many(step: int) -> Tensor:
        loss: Tensor = together(x[:, :, first:last], step, first)
        update(loss, optimizers[1], together.parameters())  # each rank's is of its rows
        return total(loss)

    return compare(f"spatial, {dtype}", many, one, steps, LIMITS[dtype])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--dtype", choices=LIMITS, default="float64")
    args = parser.parse_args()
    with processes():
        train(args.steps, args.dtype)


if __name__ == "__main__":
    main()
