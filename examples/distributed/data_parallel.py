"""Data parallelism (DDP) that draws the noise of one process, and so trains to its losses.

    torchrun --nproc-per-node 2 examples/distributed/data_parallel.py --steps 100 --dtype float64

Each rank has some rows of the batch, not all as many. `region=` says which, and each row gets the
noise that it has in the whole batch; `count=` is the whole batch, and so the parts add up. To have
noise that differs from rank to rank instead, it is enough to leave out the region and to write
`stream=vae_ext.distributed.rank_stream(step)`.
"""

from __future__ import annotations

import argparse
import copy

import torch
from common import compare, images, joined, part, processes, total, update
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import vae_ext

BATCH, PIXELS, LATENT, SEED = 30, 64, 8, 1234
DTYPES = {"float64": (torch.float64, 1e-12), "float32": (torch.float32, 1e-5)}


class VAE(nn.Module):
    """Its forward pass is the part of the loss that its rows make."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, 64), nn.Tanh(), nn.Linear(64, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 64), nn.Tanh(), nn.Linear(64, PIXELS))

    def forward(self, x: Tensor, step: int, first_row: int) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z, kl = vae_ext.reparameterize_with_kl(
            mu,
            logvar,
            seed=SEED,
            stream=step,
            region=vae_ext.Region((BATCH, LATENT), (first_row, 0)),
            reduction="batchmean",
            count=BATCH,
        )
        logits = self.decoder(z)
        ll = vae_ext.bernoulli_log_likelihood(logits, x, reduction="batchmean", count=BATCH)
        return kl - ll


def train(steps: int, dtype: str) -> float:
    """On all ranks and, on each of them, alone."""
    torch_dtype, limit = DTYPES[dtype]
    torch.manual_seed(0)
    alone = VAE().to(torch_dtype)
    together = DistributedDataParallel(copy.deepcopy(alone))
    x = images(BATCH, 1, 8, 8).flatten(1).to(torch_dtype)
    first, last = part(BATCH)
    world = torch.distributed.get_world_size()
    optimizers = [torch.optim.Adam(m.parameters(), 1e-2) for m in (alone, together)]

    def one(step: int) -> Tensor:
        loss: Tensor = alone(x, step, 0)
        update(loss, optimizers[0])
        return loss

    def many(step: int) -> Tensor:
        loss: Tensor = together(x[first:last], step, first)
        update(loss * world, optimizers[1])  # DDP divides the sum of the gradients by the ranks
        return total(loss)

    worst = compare(f"DDP, {dtype}", many, one, steps, limit)
    zeros = torch.zeros(1, dtype=torch_dtype).expand(last - first, LATENT)
    own = vae_ext.reparameterize(
        zeros, zeros, seed=SEED, region=vae_ext.Region((BATCH, LATENT), (first, 0))
    )
    whole = vae_ext.standard_normal(BATCH, LATENT, seed=SEED, dtype=torch_dtype)
    if not torch.equal(joined(own), whole):
        raise SystemExit("the ranks' noise was not that of one process")
    if torch.distributed.get_rank() == 0:
        print(f"The noise is that of one process, bit for bit; losses are apart by {worst:.1e}.")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--dtype", choices=DTYPES, default="float64")
    args = parser.parse_args()
    with processes():
        train(args.steps, args.dtype)


if __name__ == "__main__":
    main()
