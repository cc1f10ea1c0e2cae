"""Likelihoods of counts as modules, and in the loss."""

from __future__ import annotations

import math

import pytest
import torch

import vae_ext
from vae_ext import negative_binomial_log_likelihood as nb
from vae_ext import poisson_log_likelihood as poisson
from vae_ext import zero_inflated_negative_binomial_log_likelihood as zinb


def test_modules() -> None:
    mean, x = torch.rand(4, 9) + 0.1, torch.poisson(torch.rand(4, 9))
    log_theta = torch.nn.Parameter(torch.randn(9))
    loss = vae_ext.nn.NegativeBinomialNLL(log_dispersion=log_theta)
    assert [name for name, _ in loss.named_parameters()] == ["log_dispersion"]
    want = -nb(mean, x, log_theta.exp(), reduction="mean")
    torch.testing.assert_close(loss(mean, x), want)
    given = vae_ext.nn.NegativeBinomialNLL()(mean, x, log_theta.exp())
    torch.testing.assert_close(given, want)
    with pytest.raises(TypeError, match=r"parameters given were \(\), expected \(dispersion\)"):
        vae_ext.nn.NegativeBinomialNLL()(mean, x)
    inflated = vae_ext.nn.ZeroInflatedNegativeBinomialNLL(total_count=2.0, zero_logits=0.5)
    want = -zinb(logits=mean, target=x, total_count=2.0, zero_logits=0.5, reduction="mean")
    torch.testing.assert_close(inflated(mean, x), want)
    rate = vae_ext.nn.PoissonNLL(log_input=True)
    torch.testing.assert_close(
        rate(mean, x), torch.nn.functional.poisson_nll_loss(mean, x) + x.add(1).lgamma().mean()
    )
    assert repr(rate).startswith("PoissonNLL(log_input=True, event_dims=None")


def test_loss() -> None:
    mean, x = torch.rand(4, 9) + 0.1, torch.poisson(torch.rand(4, 9))
    mu, logvar = torch.randn(4, 2), torch.randn(4, 2)
    kl = vae_ext.gaussian_kl(mu, logvar)
    for name, parameters, want in (
        ("poisson", {}, poisson(mean, x)),
        ("negative_binomial", {"obs_log_dispersion": 0.5}, nb(mean, x, math.exp(0.5))),
        (
            "negative_binomial",
            {"obs_total_count": 2.0},
            nb(logits=mean, target=x, total_count=2.0),
        ),
        (
            "zero_inflated_negative_binomial",
            {"obs_dispersion": 2.0, "obs_zero_logits": 0.0},
            zinb(mean, x, 2.0, 0.0),
        ),
    ):
        got = vae_ext.elbo_loss(
            mean, x.int(), mu, logvar, likelihood=name, reduction="event", **parameters
        )
        torch.testing.assert_close(got, kl - want)
        module = vae_ext.nn.ELBOLoss(name, reduction="event", **parameters)
        torch.testing.assert_close(module(mean, x, mu, logvar), kl - want)
