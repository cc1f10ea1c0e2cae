"""A pythae model, before and after: its VAE with the loss of one method replaced."""

from __future__ import annotations

import math
from typing import Any

import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from recipes import compare
from torch import Tensor

import vae_ext


class Before(VAE):  # type: ignore[misc]
    def loss(self, x: Tensor) -> Tensor:
        loss: Tensor = self({"data": x}).loss
        return loss


class After(Before):
    def forward(self, inputs: dict[str, Tensor], **_: Any) -> ModelOutput:
        x = inputs["data"]
        encoded = self.encoder(x)
        mu, logvar = encoded.embedding, encoded.log_covariance
        # `noise` only for the comparison: without it the kernel draws its own.
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, noise=torch.randn_like(mu))
        recon = self.decoder(z)["reconstruction"]
        # pythae's ½ Σ (x - recon)², which is the likelihood of unit variance without its constant.
        constant = 0.5 * math.log(2 * math.pi) * x[0].numel()
        square = -vae_ext.gaussian_log_likelihood(recon.reshape(x.shape), x) - constant
        return ModelOutput(
            recon_loss=square.mean(),
            reg_loss=kl.mean(),
            loss=(square + kl).mean(),
            recon_x=recon,
            z=z,
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 8, 8), latent_dim=10, reconstruction_loss="mse")
    compare("pythae VAE, nats per image", Before(config), After(config))
