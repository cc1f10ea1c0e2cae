"""What test_sharding.py runs on each rank with the libraries that start DDP for their users: rows
and noise of one's own on each rank, and the mean of the losses is that of the batch."""

from __future__ import annotations

import importlib.util
import logging

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import vae_ext
from tests.engine_checks import BATCH, LATENT, OF_LAYERS, encoder, gathered
from tests.sharded import close, normal
from vae_ext.distributed import rank_stream


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, step: int) -> Tensor:
        mu, logvar = self.encoder.linear(x).chunk(2, 1)
        z, kl = vae_ext.reparameterize_with_kl(
            mu, logvar, stream=rank_stream(step), reduction="batchmean"
        )
        loss: Tensor = kl + z.square().sum() / len(z)
        noise = (z - mu) * (-0.5 * logvar).exp()
        self.found.append((x, noise.detach(), loss.detach()))
        return loss


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.1)


def rows_of_ranks(world: int) -> DataLoader[tuple[Tensor, ...]]:
    """One step's, since both trainers deal them out."""
    (x,) = normal((BATCH, 2 * LATENT))
    return DataLoader(TensorDataset(x), batch_size=BATCH // world)


def check_first_step(model: Model, world: int) -> None:
    """And that the gradient, or what SGD made of it, is that of all rows in one process."""
    ((own, noise, loss),) = model.found
    ranks = gathered(noise)
    assert not any(torch.equal(other, ranks[0]) for other in ranks[1:])
    dist.all_reduce(loss)
    rows = torch.cat(gathered(own))
    (x,) = normal((BATCH, 2 * LATENT))
    close(rows.sum(0), x.sum(0), OF_LAYERS)  # each once
    alone = encoder()
    mu, logvar = alone.linear(rows).chunk(2, 1)
    z = mu + (0.5 * logvar).exp() * torch.cat(ranks)
    kl = vae_ext.gaussian_kl(mu, logvar, reduction="batchmean")
    want = kl + z.square().sum() / BATCH
    close(loss / world, want, OF_LAYERS)
    want.backward()
    optimizer(alone).step()
    close(model.encoder.linear.weight.detach(), alone.linear.weight.detach(), OF_LAYERS)


def lightning(rank: int, world: int) -> None:
    import lightning as L
    from lightning.fabric.plugins.environments import TorchElasticEnvironment

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Model()

        def training_step(self, batch: list[Tensor], step: int) -> Tensor:
            loss: Tensor = self.model(batch[0], step)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer(self)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(1, verbose=False)  # the same on all ranks
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=world,
        strategy="ddp",
        plugins=[TorchElasticEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Module()
    trainer.fit(module, rows_of_ranks(world))
    check_first_step(module.model, world)


def accelerate(rank: int, world: int) -> None:
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == world
    set_seed(1)  # the same on all ranks
    model = Model()
    together, steps, rows = accelerator.prepare(model, optimizer(model), rows_of_ranks(world))
    for step, (x,) in enumerate(rows):
        accelerator.backward(together(x, step))
        steps.step()
    check_first_step(model, world)


# `make check` has neither.
CHECKS = [check for check in (lightning, accelerate) if importlib.util.find_spec(check.__name__)]


def run(rank: int, world: int) -> None:
    for check in CHECKS:
        check(rank, world)
