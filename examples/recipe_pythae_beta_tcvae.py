"""pythae's BetaTCVAE, before and after: the parts of the KL without batch × batch × latent."""

from __future__ import annotations

import torch
from pythae.models import BetaTCVAE, BetaTCVAEConfig
from recipes import compare
from torch import Tensor

import vae_ext


class Before(BetaTCVAE):  # type: ignore[misc]
    def loss(self, x: Tensor) -> Tensor:
        loss: Tensor = self({"data": x.double()}, dataset_size=1203).loss
        return loss


class After(Before):
    def loss_function(
        self, recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor, z: Tensor, n_data: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        square = 0.5 * (recon.reshape(x.shape) - x).square().flatten(1).sum(1)
        kl = vae_ext.objectives.beta_tcvae(
            *(z, mu, logvar),
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            # pythae's stratified weights are in the first two columns instead of at each event's
            # own place. Without this argument, and with n_data=n_data, they are where they belong.
            log_weights=self._log_importance_weight_matrix(len(z), n_data).double(),
        )
        return (square + kl).mean(), square.mean(), kl.mean()


if __name__ == "__main__":
    torch.manual_seed(0)
    config = BetaTCVAEConfig(
        input_dim=(1, 8, 8), latent_dim=10, reconstruction_loss="mse", beta=2.0, use_mss=True
    )
    models = Before(config).double(), After(config).double()
    compare("pythae BetaTCVAE, nats per image", *models, 1e-6)
