"""pythae's VAMP, before and after: its log p(z), which broadcasts events against pseudo-inputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from pythae.models import VAMP, VAMPConfig
from recipes import compare
from torch import Tensor

import vae_ext


class Before(VAMP):  # type: ignore[misc]
    def __init__(self, config: VAMPConfig) -> None:
        super().__init__(config)
        self.idle_input: Tensor = torch.eye(self.number_components).double()  # to compare

    def loss(self, x: Tensor) -> Tensor:
        loss: Tensor = self({"data": x.double()}).loss
        return loss


class After(Before):
    def _log_p_z(self, z: Tensor) -> Tensor:
        shape = (self.number_components, *self.model_config.input_dim)
        encoded: Any = self.encoder(self.pseudo_inputs(self.idle_input).reshape(shape))
        log_p = vae_ext.mixture_log_density(z, encoded.embedding, encoded.log_covariance)
        # pythae leaves the constant out, here and in log q(z|x), from which it goes.
        return log_p + 0.5 * math.log(2 * math.pi) * z.shape[1]


if __name__ == "__main__":
    torch.manual_seed(0)
    config = VAMPConfig(
        input_dim=(1, 8, 8), latent_dim=10, number_components=50, reconstruction_loss="mse"
    )
    compare("pythae VAMP, nats per image", Before(config).double(), After(config).double(), 1e-6)
