"""Mixture priors and β-TCVAE: the term alone, and whole training steps of a small dense VAE.

    python -m benchmarks.priors --out out/priors.json        on a GPU: --device cuda

The term is forward and backward from z and the parameters, a mixture of 500 components or the
decomposition of a batch. Beside it what people write, which broadcasts events against components,
and that compiled; "none" is a step without the term, so that its share is what is left out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

import vae_ext

from . import report
from .harness import NoLoss, Step

N_DATA = 60000
LOG_2PI = math.log(2 * math.pi)
Term = Callable[..., Tensor]


def density(x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (LOG_2PI + logvar + (x - mu) ** 2 / logvar.exp())


def usual_mixture(z: Tensor, means: Tensor, logvars: Tensor) -> Tensor:
    """As pythae's VAMP and the paper's code."""
    each = density(z[:, None], means[None], logvars[None]).sum(-1) - math.log(len(means))
    return torch.logsumexp(each, 1).sum()


def our_mixture(z: Tensor, means: Tensor, logvars: Tensor) -> Tensor:
    return vae_ext.mixture_log_density(z, means, logvars).sum()


def usual_parts(z: Tensor, mu: Tensor, logvar: Tensor, beta: float = 6.0) -> Tensor:
    """As pythae's BetaTCVAE, without stratified weights."""
    each = density(z[:, None], mu[None], logvar[None])
    constant = math.log(len(z) * N_DATA)
    log_q = torch.logsumexp(each.sum(-1), 1) - constant
    log_q_of_each = (torch.logsumexp(each, 1) - constant).sum(-1)
    log_q_given_x = density(z, mu, logvar).sum(-1)
    log_p = density(z, torch.zeros_like(z), torch.zeros_like(z)).sum(-1)
    total = (log_q_given_x - log_q) + beta * (log_q - log_q_of_each) + (log_q_of_each - log_p)
    return total.sum()


def our_parts(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    value = vae_ext.objectives.beta_tcvae(
        z, mu, logvar, beta=6.0, n_data=N_DATA, estimator="weighted"
    )
    return value.sum()


def nothing(z: Tensor, *_: Tensor) -> Tensor:
    value: Tensor = NoLoss.apply(z)
    return value.sum()


def contenders(usual: Term, ours: Term) -> dict[str, Term]:
    return {"eager": usual, "compile": torch.compile(usual), "vae_ext": ours}


def alone(terms: tuple[Term, Term], rows: int, components: int, dims: int) -> dict[str, Step]:
    shapes = ((rows, dims), (components, dims), (components, dims))
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]

    def of(term: Term) -> Step:
        return lambda: torch.autograd.grad(term(*inputs), inputs)

    return {name: of(term) for name, term in contenders(*terms).items()}


class DenseVAE(nn.Module):
    """Of 784 pixels, with pseudo-inputs."""

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU()),
            nn.Linear(300, 2 * latent),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latent, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU()),
            nn.Linear(300, 784),
        )
        self.pseudo_inputs = nn.Parameter(torch.rand(components, 784))


def step_of(prior: bool, batch: int, latent: int, components: int) -> dict[str, Step]:
    """With a VampPrior, or with β-TCVAE's parts of the KL."""
    model = DenseVAE(latent, components)
    x = torch.rand(batch, 784)
    terms = (usual_mixture, our_mixture) if prior else (usual_parts, our_parts)

    def of(term: Term) -> Step:
        own = copy.deepcopy(model)
        optimizer = torch.optim.Adam(own.parameters())

        def step() -> None:
            mu, logvar = own.encoder(x).chunk(2, 1)
            z = vae_ext.reparameterize(mu, logvar)
            log_likelihood = vae_ext.bernoulli_log_likelihood(own.decoder(z), x, reduction="sum")
            if prior:
                log_q = vae_ext.gaussian_log_likelihood(mu, z, logvar, reduction="sum")
                kl = log_q - term(z, *own.encoder(own.pseudo_inputs).chunk(2, 1))
            else:
                kl = term(z, mu, logvar)
            optimizer.zero_grad()
            ((kl - log_likelihood) / batch).backward()
            optimizer.step()

        return step

    every = contenders(*terms) | {"none": nothing}
    return {name: of(term) for name, term in every.items()}


def main() -> None:
    mixture, parts = (usual_mixture, our_mixture), (usual_parts, our_parts)
    print("milliseconds | " + report.BESIDE)
    report.run(
        report.parse(__doc__),
        {
            "mixture of 500, 1024 × 16": lambda: alone(mixture, 1024, 500, 16),
            "mixture of 10, 1024 × 64": lambda: alone(mixture, 1024, 10, 64),
            "VampPrior of 500, a training step of 128 × 40": lambda: step_of(True, 128, 40, 500),
            "β-TCVAE's parts, 1024 × 64": lambda: alone(parts, 1024, 1024, 64),
            "β-TCVAE, a training step of 256 × 10": lambda: step_of(False, 256, 10, 1),
        },
        report.beside,
    )


if __name__ == "__main__":
    main()
