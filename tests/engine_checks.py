"""What test_sharding.py runs on each rank with torch's own ways of using many processes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor import distribute_tensor as distribute
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import vae_ext
from tests.sharded import close, normal, same
from vae_ext.distributed import rank_stream

BATCH, LATENT = 8, 4
OF_LAYERS = 1e-6  # whose sums may be in another order for other numbers of rows


def gathered(t: Tensor) -> list[Tensor]:
    found = [torch.empty_like(t) for _ in range(dist.get_world_size())]
    dist.all_gather(found, t.contiguous())
    return found


class Encoder(nn.Module):
    """Its loss is a part of that of the batch, of the rows from `first` on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * LATENT, 2 * LATENT)

    def draw(self, x: Tensor, **noise: Any) -> tuple[Tensor, Tensor]:
        mu, logvar = self.linear(x).chunk(2, 1)
        return vae_ext.reparameterize_with_kl(
            mu, logvar, reduction="batchmean", count=BATCH, **noise
        )

    def forward(self, x: Tensor, first: int = 0, **noise: Any) -> tuple[Tensor, Tensor]:
        region = vae_ext.Region((BATCH, LATENT), (first, 0))
        z, kl = self.draw(x, seed=5, region=region, **noise)
        return z.detach(), z.square().sum() / BATCH + kl


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder()


def of_one_process(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, loss and gradient."""
    alone = encoder()
    z, loss = alone(x)
    loss.backward()
    assert alone.linear.weight.grad is not None
    return z, loss.detach(), alone.linear.weight.grad


def data_parallel(rank: int, world: int) -> None:
    """One process's batch: whole, and in micro-batches of other sizes."""
    (x,) = normal((BATCH, 2 * LATENT))
    z, loss, gradient = of_one_process(x)
    size = BATCH // world
    for sizes in ((size,), (size - 1, 1)):
        together = DistributedDataParallel(encoder())
        at, found, total = rank * size, [], torch.zeros(())
        for i, n in enumerate(sizes):
            together.require_backward_grad_sync = i == len(sizes) - 1
            part, value = together(x[at : at + n], at)
            (value * world).backward()
            found.append(part)
            total += value.detach()
            at += n
        close(torch.cat(gathered(torch.cat(found))), z, OF_LAYERS)
        dist.all_reduce(total)
        close(total, loss, 3e-7)
        close(together.module.linear.weight.grad, gradient, OF_LAYERS)


def noise_of_its_own(rank: int, world: int) -> None:
    """With one seed on all ranks it is the same everywhere, but for a stream of one's own."""
    together = DistributedDataParallel(encoder())
    (x,) = normal((BATCH, 2 * LATENT))
    draw = together.module.draw
    torch.manual_seed(3)
    ranks = gathered(draw(x)[0].detach())
    assert all(torch.equal(z, ranks[0]) for z in ranks)
    torch.manual_seed(3)
    ranks = gathered(draw(x, stream=rank_stream())[0].detach())
    assert not any(torch.equal(z, ranks[0]) for z in ranks[1:])


def checkpoints(rank: int, world: int) -> None:
    """Computed again under DDP the noise is the same, and a generator's is refused."""
    seen: list[Tensor] = []

    class Checkpointed(Encoder):
        def forward(self, x: Tensor, **noise: Any) -> Any:  # type: ignore[override]
            def region(x: Tensor) -> Tensor:
                z, kl = self.draw(x, **noise)
                seen.append(z.detach())
                return z.square().sum() + kl

            return checkpoint(region, x, use_reentrant=False)

    (x,) = normal((BATCH, 2 * LATENT))
    torch.manual_seed(3 + rank)
    together = DistributedDataParallel(Checkpointed())
    together(x).backward()
    assert torch.equal(*seen)
    own = torch.Generator().manual_seed(rank)
    with pytest.raises(ValueError, match=r"generator was given within torch\.utils\.checkpoint"):
        together.module(x, generator=own)


def tensor_parallel_decoder(rank: int, world: int) -> None:
    mesh = init_device_mesh("cpu", (world,))
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 32))
    z, x = normal((4, 8), (4, 32))
    target = x.sigmoid()
    ll = vae_ext.bernoulli_log_likelihood(decoder(z), target, reduction="batchmean")
    (-ll).backward()

    def parallel(local_output: bool) -> nn.Module:
        last = ColwiseParallel(output_layouts=Shard(-1), use_local_output=local_output)
        first = ColwiseParallel(output_layouts=Replicate())
        fresh = copy.deepcopy(decoder)
        fresh.zero_grad()
        return parallelize_module(fresh, mesh, {"0": first, "2": last})

    model = parallel(False)
    logits = model(z)
    shards = distribute(target, mesh, [Shard(1)])
    got = vae_ext.bernoulli_log_likelihood(logits, shards, reduction="batchmean")
    close(got, ll, 3e-7)
    (-got).backward()
    weight = model.get_submodule("2").weight.grad
    want = decoder.get_submodule("2").weight.grad
    assert isinstance(weight, Tensor)
    assert isinstance(want, Tensor)
    close(weight, want, OF_LAYERS)
    # This rank's pixels beside logits of all of them.
    for beside in (shards.to_local(), target):
        with pytest.raises(ValueError, match="target was a plain tensor and logits a DTensor"):
            vae_ext.bernoulli_log_likelihood(logits, beside, reduction="batchmean")
    with pytest.raises(ValueError, match="logits was a plain tensor and target a DTensor"):
        vae_ext.bernoulli_log_likelihood(parallel(True)(z), shards, reduction="batchmean")


def context_parallel(rank: int, world: int) -> None:
    """A video autoencoder whose ranks have 9, 8, 8, … frames."""
    frames = 1 + 8 * world
    first, n = (0, 9) if rank == 0 else (1 + 8 * rank, 8)
    torch.manual_seed(0)
    encode, decode = nn.Conv3d(3, 8, 1), nn.Conv3d(4, 3, 1)  # a frame by itself
    video = normal((2, 3, frames, 4, 5))[0].sigmoid()
    shape = (2, 4, frames, 4, 5)
    found = []
    for at, size in ((0, frames), (first, n)):
        encode.zero_grad()
        x = video[:, :, at : at + size]
        mu, logvar = encode(x).chunk(2, 1)
        mean = {"reduction": "mean", "count": 2 * 4 * frames * 20}
        region = vae_ext.Region(shape, (0, 0, at, 0, 0))
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, seed=1, region=region, **mean)
        ll = vae_ext.gaussian_log_likelihood(decode(z), x, reduction="sum") / video.numel()
        loss = kl - ll
        loss.backward()
        assert encode.weight.grad is not None
        found.append((z.detach(), loss.detach(), encode.weight.grad.clone()))
    (z, loss, gradient), (own, part, part_gradient) = found
    close(own, z[:, :, first : first + n], OF_LAYERS)
    for t in (part, part_gradient):
        dist.all_reduce(t)
    close(part, loss, OF_LAYERS)
    close(part_gradient, gradient, OF_LAYERS)


class FirstStage(nn.Module):
    """Draws for the micro-batches as they come; each has the noise of its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        self.drawn: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        at = sum(len(z) for z in self.drawn)
        region = vae_ext.Region((BATCH, LATENT), (at, 0))
        z, _ = self.encoder.draw(x, seed=5, region=region)
        self.drawn.append(z.detach())
        return z


def pipeline(rank: int, world: int) -> None:
    (x,) = normal((BATCH, 2 * LATENT))
    if world != 2:
        return
    schedules: list[tuple[Callable[..., Any], int]] = [
        (ScheduleGPipe, 4),
        (Schedule1F1B, 4),
        (ScheduleGPipe, 2),
    ]
    for schedule, chunks in schedules:
        stage = FirstStage() if rank == 0 else nn.Linear(LATENT, 2 * LATENT)
        rows = BATCH // chunks
        data, sample = torch.empty(rows, 2 * LATENT), torch.empty(rows, LATENT, requires_grad=True)
        taken, given = (data, sample) if rank == 0 else (sample, data.clone().requires_grad_())
        piece = PipelineStage(
            stage, rank, world, torch.device("cpu"), input_args=(taken,), output_args=(given,)
        )
        run = schedule(piece, chunks, loss_fn=nn.functional.mse_loss)
        if rank == 0:
            assert isinstance(stage, FirstStage)
            run.step(x)
            z, _, _ = of_one_process(x)
            close(torch.cat(stage.drawn), z, OF_LAYERS)
        else:
            run.step(target=x)


def resumed(rank: int, world: int) -> None:
    """In the middle of an epoch, with no state but the number of the step."""
    (x,) = normal((BATCH, 2 * LATENT))
    model = encoder()
    steps = [model.draw(x, seed=1, stream=rank_stream(s))[0].detach() for s in range(4)]
    torch.manual_seed(rank + 100)
    for s in (2, 3):
        same(model.draw(x, seed=1, stream=rank_stream(s))[0], steps[s])


CHECKS = (
    data_parallel,
    noise_of_its_own,
    checkpoints,
    tensor_parallel_decoder,
    context_parallel,
    pipeline,
    resumed,
)


def run(rank: int, world: int) -> None:
    for check in CHECKS:
        check(rank, world)
