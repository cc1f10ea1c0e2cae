"""Single-cell models: the loss of scvi-tools alone, and whole training steps of its VAE.

    make test-integrations    # installs scvi-tools in build/integrations
    PYTHONPATH=. build/integrations/bin/python -m benchmarks.scvi_step --out out/scvi.json

A step is what SCVI.train() runs for a batch: scvi.module.VAE forward, its loss, backward and Adam.
"compile" is torch.compile of scvi-tools' own log-probability; "none" has a constant in its place,
so that the share of the loss is what is left out there.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import scvi
import torch
from scvi.distributions import _negative_binomial as theirs
from scvi.module import VAE
from torch import Tensor

from vae_ext.integrations.scvi import patch

from . import report
from .harness import NoLoss
from .table import SCVI_HEAD, scvi_row

NAMES = {"nb": "log_nb_positive", "zinb": "log_zinb_positive"}
CELLS = 128


def no_loss(_: Tensor, *parameters: Tensor, **more: Any) -> Tensor:
    value: Tensor = NoLoss.apply(
        *(p for p in (*parameters, *more.values()) if isinstance(p, Tensor))
    )
    return value


def contenders(law: str) -> dict[str, Callable[..., Tensor]]:
    original = getattr(theirs, NAMES[law])
    with patch():
        ours = getattr(theirs, NAMES[law])
    return {
        "eager": original,
        "compile": torch.compile(original),
        "vae_ext": ours,
        "none": no_loss,
    }


def counts(genes: int, zeros: bool = True) -> Tensor:
    """Of cells of some 5,000 molecules, or all above 0."""
    generator = torch.Generator().manual_seed(0)
    share = torch.empty(genes).log_normal_(0, 2, generator=generator)
    depth = torch.empty(CELLS, 1).log_normal_(8.5, 0.4, generator=generator)
    rate = depth * share / share.sum()
    rate = rate * torch._standard_gamma(torch.ones_like(rate), generator=generator)
    return torch.poisson(rate, generator=generator) if zeros else torch.poisson(rate + 20) + 1


def with_function(law: str, function: Callable[..., Tensor], step: Callable[[], object]) -> Any:
    def run() -> None:
        setattr(theirs, NAMES[law], function)
        step()

    return run


def loss_alone(law: str, x: Tensor) -> Callable[[], object]:
    """Of a distribution as the models make it: forward and backward."""
    generator = torch.Generator().manual_seed(1)
    mean = x.mean(0) * torch.empty(x.shape).log_normal_(0, 0.3, generator=generator) + 1e-3
    mean.requires_grad_()
    log_theta = torch.randn(x.shape[1], generator=generator, requires_grad=True)
    logits = torch.randn(x.shape, generator=generator, requires_grad=True)

    def step() -> None:
        theta = log_theta.exp()
        if law == "nb":
            leaves: list[Tensor] = [mean, log_theta]
            d = theirs.NegativeBinomial(mu=mean, theta=theta)
        else:
            leaves = [mean, log_theta, logits]
            d = theirs.ZeroInflatedNegativeBinomial(mu=mean, theta=theta, zi_logits=logits)
        torch.autograd.grad(-d.log_prob(x).sum(-1).mean(), leaves)

    return step


def training_step(law: str, x: Tensor) -> Callable[[], object]:
    torch.manual_seed(0)
    model = VAE(n_input=x.shape[1], n_batch=1, gene_likelihood=law)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=0.01, weight_decay=1e-6)
    none = torch.zeros(CELLS, 1, dtype=torch.long)
    tensors = {"X": x, "batch": none, "labels": none}

    def step() -> None:
        *_, losses = model(tensors, loss_kwargs={"kl_weight": 1.0})
        optimizer.zero_grad()
        losses.loss.backward()
        optimizer.step()

    return step


def measure(what: str, law: str, genes: int, zeros: bool, rounds: int) -> dict[str, object]:
    x = counts(genes, zeros)
    make = loss_alone if what == "loss" else training_step
    functions = contenders(law)
    steps = {n: with_function(law, f, make(law, x)) for n, f in functions.items()}
    times = report.times_of(steps, rounds)
    setattr(theirs, NAMES[law], functions["eager"])
    return {
        "what": what,
        "law": law,
        "cells": CELLS,
        "genes": genes,
        "zeros": float((x == 0).float().mean()),
        "times": times,
    }


def main() -> None:
    parser = report.options(__doc__, rounds=11)
    parser.add_argument("--genes", type=int, nargs="+", default=[2000, 20000])
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    results = []
    print(SCVI_HEAD)
    for genes in args.genes:
        for law in NAMES:
            cases = [("loss", True), ("step", True)]
            if genes == max(args.genes):
                cases.insert(1, ("loss", False))
            for what, zeros in cases:
                torch._dynamo.reset()
                results.append(measure(what, law, genes, zeros, args.rounds))
                print(scvi_row(results[-1]), flush=True)
    report.write(args.out, results, **{"scvi-tools": scvi.__version__})


if __name__ == "__main__":
    main()
