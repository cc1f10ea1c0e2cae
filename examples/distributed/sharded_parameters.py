"""Sharded parameters (FSDP2): a learned prior, and half precision where it is computed.

    torchrun --nproc-per-node 2 examples/distributed/sharded_parameters.py --steps 100

Encoder, decoder and prior lie in shards on the ranks, and are whole in a forward pass, where the
functions get plain tensors. Rows, noise and the mean are data_parallel.py's. With --dtype bfloat16
the parameters are bfloat16 in the forward pass, and the losses float32 all the same, since that is
what half precision is reduced in.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import torch
from common import compare, images, part, processes, total, update
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import vae_ext

BATCH, PIXELS, LATENT, SEED = 30, 64, 8, 1234
LIMITS = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2e-2}


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, 64), nn.Tanh(), nn.Linear(64, 2 * LATENT))
        self.latent = vae_ext.nn.GaussianLatent((LATENT,), reduction="batchmean")
        self.decoder = nn.Sequential(nn.Linear(LATENT, 64), nn.Tanh(), nn.Linear(64, PIXELS))

    def forward(self, x: Tensor, target: Tensor, step: int, first_row: int) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        region = vae_ext.Region((BATCH, LATENT), (first_row, 0))
        z, kl = self.latent(mu, logvar, seed=SEED, stream=step, region=region, count=BATCH)
        options: dict[str, Any] = {"reduction": "batchmean", "count": BATCH}
        ll = vae_ext.bernoulli_log_likelihood(self.decoder(z), target, **options)
        loss: Tensor = kl - ll
        return loss


def train(steps: int, dtype: str) -> float:
    half = dtype == "bfloat16"
    stored = torch.float32 if half else getattr(torch, dtype)
    torch.manual_seed(0)
    alone = VAE().to(stored)
    together = copy.deepcopy(alone)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if half else None)
    for module in (together.encoder, together.latent, together.decoder, together):
        fully_shard(module, mp_policy=policy)
    x = images(BATCH, 1, 8, 8).flatten(1).to(stored)
    first, last = part(BATCH)
    world = torch.distributed.get_world_size()
    optimizers = [torch.optim.Adam(m.parameters(), 1e-2) for m in (alone, together)]

    def one(step: int) -> Tensor:
        loss: Tensor = alone(x, x, step, 0)
        update(loss, optimizers[0])
        return loss

    def many(step: int) -> Tensor:
        loss: Tensor = together(x[first:last], x[first:last], step, first)
        update(loss * world, optimizers[1])  # FSDP divides the sum of the gradients by the ranks
        return total(loss)

    return compare(f"FSDP2, {dtype}", many, one, steps, LIMITS[dtype])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--dtype", choices=LIMITS, default="float32")
    args = parser.parse_args()
    with processes():
        train(args.steps, args.dtype)


if __name__ == "__main__":
    main()
