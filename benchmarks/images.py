"""Pixels as discretized logistic mixtures and as 256 classes: the loss alone, and whole training
steps of a small convolutional VAE.

    python -m benchmarks.images --out out/images.json        on a GPU: --device cuda

The loss is forward and backward from what the decoder gives. Beside it what people write, and
that compiled; "none" is a step without a loss, so that the share of the loss is what is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vae_ext
from tests.group_cases import usual as usual_bins

from . import report
from .harness import NoLoss, Step

Loss = Callable[[Tensor, Tensor], Tensor]
MIXTURES = 10
PARAMETERS = {"logistic mixture": 10 * MIXTURES, "256 classes": 3 * 256}


def usual_mixture(parameters: Tensor, pixels: Tensor) -> Tensor:
    """As PixelCNN++, NVAE and VDVAE have it."""
    b, _, height, width = parameters.shape
    x = (pixels.float() / 127.5 - 1)[:, :, None]
    logits, rest = parameters[:, :MIXTURES], parameters[:, MIXTURES:]
    means, s, k = rest.view(b, 3, 3 * MIXTURES, height, width).chunk(3, 2)
    k = torch.tanh(k)
    second = means[:, 1] + k[:, 0] * x[:, 0]
    third = means[:, 2] + k[:, 1] * x[:, 0] + k[:, 2] * x[:, 1]
    moved = torch.stack((means[:, 0], second, third), 1)
    of_bins = usual_bins(moved, x, s.clamp(min=-7.0)).sum(1)
    return torch.logsumexp(of_bins + logits.log_softmax(1), 1).sum() / len(parameters)


def our_mixture(parameters: Tensor, pixels: Tensor) -> Tensor:
    return vae_ext.discretized_logistic_mixture_log_likelihood(
        parameters, pixels, reduction="batchmean"
    )


def usual_classes(parameters: Tensor, pixels: Tensor) -> Tensor:
    logits = parameters.unflatten(1, (3, 256)).transpose(1, 2)
    return -F.cross_entropy(logits, pixels.long(), reduction="sum") / len(parameters)


def our_classes(parameters: Tensor, pixels: Tensor) -> Tensor:
    logits = parameters.unflatten(1, (3, 256))
    return vae_ext.categorical_log_likelihood(logits, pixels, dim=2, reduction="batchmean")


LOSSES: dict[str, dict[str, Loss]] = {
    "logistic mixture": {"eager": usual_mixture, "vae_ext": our_mixture},
    "256 classes": {"eager": usual_classes, "vae_ext": our_classes},
}


class ConvVAE(nn.Module):
    """32 × 32 pixels of 3 channels, a latent of 64; 0.4M parameters beside the last layer."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(64 * 8 * 8, 128)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(64, 64 * 8 * 8), nn.ReLU(), nn.Unflatten(1, (64, 8, 8))),
            *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU()),
            nn.Conv2d(32, parameters, 1),
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.encoder(pixels.float() / 127.5 - 1).chunk(2, 1)
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, reduction="batchmean")
        return self.decoder(z), kl


def no_loss(parameters: Tensor, _: Tensor) -> Tensor:
    value: Tensor = NoLoss.apply(parameters)
    return value.sum()


def contenders(kind: str) -> dict[str, Loss]:
    losses = LOSSES[kind]
    return {
        "eager": losses["eager"],
        "compile": torch.compile(losses["eager"]),
        "vae_ext": losses["vae_ext"],
    }


def loss_alone(kind: str, batch: int) -> dict[str, Step]:
    parameters = torch.randn(batch, PARAMETERS[kind], 32, 32, requires_grad=True)
    pixels = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8)

    def of(loss: Loss) -> Step:
        return lambda: torch.autograd.grad(-loss(parameters, pixels), parameters)

    # What reads the parameters once and writes as many gradients takes at least.
    copy: dict[str, Step] = {"copy": parameters.detach().clone}
    return {name: of(loss) for name, loss in contenders(kind).items()} | copy


def training_step(kind: str, batch: int) -> dict[str, Step]:
    model = ConvVAE(PARAMETERS[kind])
    pixels = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8)

    def of(loss: Loss) -> Step:
        own = copy.deepcopy(model)
        optimizer = torch.optim.Adam(own.parameters())

        def step() -> None:
            parameters, kl = own(pixels)
            optimizer.zero_grad()
            (kl - loss(parameters, pixels)).backward()
            optimizer.step()

        return step

    return {name: of(loss) for name, loss in (contenders(kind) | {"none": no_loss}).items()}


def main() -> None:
    args = report.parse(__doc__)
    times = 1 if args.device.type == "cpu" else 16
    cases: dict[str, Callable[[], dict[str, Step]]] = {}
    for kind, batch in (("logistic mixture", 32 * times), ("256 classes", 16 * times)):
        cases[f"{kind}, the loss of {batch}"] = lambda k=kind, b=batch: loss_alone(k, b)  # type: ignore[misc]
        cases[f"{kind}, a training step of {batch}"] = lambda k=kind, b=batch: training_step(k, b)  # type: ignore[misc]
    print("of 32 × 32 pixels, milliseconds | " + report.BESIDE)
    report.run(args, cases, report.beside)


if __name__ == "__main__":
    main()
