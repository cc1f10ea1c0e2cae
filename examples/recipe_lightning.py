"""A VAE as a LightningModule, before and after, and after under "bf16-mixed" too: the loss is
computed in float32 whatever autocast does to the layers."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Literal

import torch
import torch.nn.functional as F
from digits import load_sklearn
from recipes import BATCH, report
from torch import Tensor, nn
from torch.utils.data import DataLoader

import vae_ext

try:
    import lightning as L
except ModuleNotFoundError:
    sys.exit("this recipe needs Lightning: pip install lightning")


class Before(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 32))
        self.decoder = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 64))
        self.losses: list[float] = []
        self.loss_dtype: torch.dtype | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def loss(self, x: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        std = torch.exp(0.5 * logvar)
        logits = self.decoder(mu + std * torch.randn_like(std))
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return (bce + kld) / len(x)

    def training_step(self, x: Tensor, _: int) -> Tensor:
        loss = self.loss(x)
        self.losses.append(loss.item())
        self.loss_dtype = loss.dtype
        return loss


class After(Before):
    def loss(self, x: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        # `noise` only for the comparison: without it the kernel draws its own.
        z = vae_ext.reparameterize(mu, logvar, noise=torch.randn_like(mu))
        return vae_ext.elbo_loss(self.decoder(z), x, mu, logvar)


def fit(model: Before, precision: Literal["32-true", "bf16-mixed"]) -> list[float]:
    L.seed_everything(1, verbose=False)
    trainer = L.Trainer(
        max_epochs=10,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(load_sklearn().train, batch_size=BATCH))  # type: ignore[arg-type]
    return model.losses


def main() -> int:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (".*does not have many workers", ".*LeafSpec.*is deprecated"):
        warnings.filterwarnings("ignore", message=message)
    torch.manual_seed(0)
    before, after, half = Before(), After(), After()
    for model in (after, half):
        model.load_state_dict(before.state_dict())
    status = report("Lightning, nats per image", fit(before, "32-true"), fit(after, "32-true"))
    losses = fit(half, "bf16-mixed")
    fell = f"{losses[0]:.2f} to {losses[-1]:.2f}"
    print(f'after, under "bf16-mixed": {fell}, the loss in {half.loss_dtype}')
    return status if losses[-1] < losses[0] and half.loss_dtype == torch.float32 else 1


if __name__ == "__main__":
    sys.exit(main())
