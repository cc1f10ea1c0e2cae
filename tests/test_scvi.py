"""The patch of scvi-tools, with the real one: `make test-integrations` installs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import anndata
import numpy as np
import pytest
import scvi
import torch
from scvi.distributions import _negative_binomial as theirs
from sklearn.datasets import load_digits
from torch import Tensor

from vae_ext.integrations.scvi import FUNCTIONS, compact, patch

ORIGINAL = {name: getattr(theirs, name) for name in FUNCTIONS}
CELLS, GENES = 96, 120


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
    assert all(getattr(theirs, name) is original for name, original in ORIGINAL.items())


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Counts, two means, a dispersion per gene and logits."""
    generator = torch.Generator().manual_seed(0)
    shape = (40, 60)
    mean = torch.empty(shape, dtype=dtype).log_normal_(0, 2, generator=generator)
    x = torch.poisson(mean, generator=generator)
    x[mean < 0.5] = 0
    theta = torch.empty(60, dtype=dtype).log_normal_(0, 1, generator=generator)
    logits = torch.randn(shape, dtype=dtype, generator=generator)
    return x, mean, 2 * mean, theta, logits


def calls(x: Tensor, m: Tensor, m2: Tensor, theta: Tensor, logits: Tensor) -> list[Tensor]:
    wide = theta.expand_as(m)  # as their distributions have it
    return [
        theirs.NegativeBinomial(mu=m, theta=theta, validate_args=False).log_prob(x),
        theirs.NegativeBinomial(
            total_count=wide, logits=(m.log() - theta.log()), validate_args=False
        ).log_prob(x),
        theirs.ZeroInflatedNegativeBinomial(
            mu=m, theta=theta, zi_logits=logits, validate_args=False
        ).log_prob(x),
        theirs.NegativeBinomialMixture(
            mu1=m, mu2=m2, theta1=theta, mixture_logits=logits, validate_args=False
        ).log_prob(x),
        theirs.Poisson(m, validate_args=False).log_prob(x),
        theirs.log_nb_positive(x, m, theta, eps=1e-3),
        theirs.log_zinb_positive(x, m, wide, logits, eps=1e-3),
    ]


def gradients(make: Callable[..., list[Tensor]], tensors: tuple[Tensor, ...]) -> list[Any]:
    x, *leaves = (t.detach().clone() for t in tensors)
    leaves = [t.requires_grad_() for t in leaves]
    return [
        (out, *torch.autograd.grad(out.sum(), leaves, allow_unused=True, retain_graph=True))
        for out in make(x, *leaves)
    ]


def test_elementwise() -> None:
    """What their functions return and their gradients: in float64 to their own digits (they add eps
    within logarithms, here it is part of the mean), in float32 to what theirs keep."""
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 2e-4)):
        tensors = inputs(dtype)
        want = gradients(calls, tensors)
        with patch():
            got = gradients(calls, tensors)
        for ours, others in zip(got[:5], want[:5], strict=True):
            for a, b in zip(ours, others, strict=True):
                if b is None:
                    assert a is None
                    continue
                torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
        for (ours, *_), (others, *_) in zip(got[5:], want[5:], strict=True):
            torch.testing.assert_close(ours, others, rtol=2e-2, atol=2e-2)  # of an eps of 1e-3


def test_a_mean_of_0_keeps_its_eps() -> None:
    x, zero, one = torch.tensor([[0.0, 3.0]]), torch.zeros(1, 2), torch.ones(1, 2)
    want = theirs.log_nb_positive(x, zero, one)
    with patch():
        got = theirs.log_nb_positive(x, zero, one)
    assert got.isfinite().all()
    torch.testing.assert_close(got, want)


def test_gradients_where_theirs_are_wrong() -> None:
    """By a large dispersion, against float64."""
    generator = torch.Generator().manual_seed(1)
    mean = 100 * torch.rand(50, 40, generator=generator)
    x = torch.poisson(mean, generator=generator)
    theta = torch.full((50, 40), 1e6)

    def slope(dtype: torch.dtype) -> Tensor:
        leaf = theta.to(dtype).requires_grad_()
        out = theirs.log_nb_positive(x.to(dtype), mean.to(dtype), leaf)
        (grad,) = torch.autograd.grad(out.sum(), leaf)
        return grad.double()

    def finite() -> Tensor:
        """Of the value itself, by a step of 1 % in float64."""
        h = 0.01
        up, down = (
            ORIGINAL["log_nb_positive"](x.double(), mean.double(), theta.double() * f)
            for f in (1 + h, 1 - h)
        )
        difference: Tensor = (up - down) / (2 * h * 1e6)
        return difference

    exact, single = slope(torch.float64), slope(torch.float32)
    assert float((single.sign() != exact.sign()).double().mean()) > 0.2
    with patch():
        ours = slope(torch.float32)
    large = exact.abs() > 1e-3 * exact.abs().max()
    assert bool((ours.sign() == exact.sign())[large].all())
    close = (ours - finite()).abs() <= 2e-3 * exact.abs().max()
    assert bool(close.all())


def test_a_row_is_not_expanded() -> None:
    theta = torch.rand(60, requires_grad=True).exp()
    assert compact(theta.expand(40, 60)) is theta
    whole = torch.rand(40, 60)
    for other in (whole, theta, theta.expand(40, 60)[:, 1:], whole[:1].expand(40, 60)):
        assert compact(other) is other


def test_what_is_not_served_is_theirs() -> None:
    x, m, m2, theta, logits = inputs()
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("log_nb_positive", (x, m, theta), {"lgamma_fn": lambda t: torch.lgamma(t)}),
        ("log_nb_positive", (x.clone().requires_grad_(), m, theta), {}),
        ("log_mixture_nb", (x, m, m2, theta, theta, logits), {}),
    ]
    for name, args, more in calls:
        want = ORIGINAL[name](*args, **more)
        with patch():
            got = getattr(theirs, name)(*args, **more)
        torch.testing.assert_close(
            torch.as_tensor(got), torch.as_tensor(want), rtol=1e-3, atol=1e-3
        )


# ---- Models --------------------------------------------------------------------------------------


def counts(kind: str) -> anndata.AnnData:
    """Synthetic counts, or real ones: grey values of digits, which scikit-learn ships."""
    generator = torch.Generator().manual_seed(0)
    if kind == "digits":
        x = torch.tensor(load_digits().data[:CELLS])
    else:
        rate = torch.empty(GENES).log_normal_(0, 2, generator=generator)
        cells = torch.empty(CELLS, 1).log_normal_(0, 0.4, generator=generator)
        x = torch.poisson(cells * rate, generator=generator)
    data = anndata.AnnData(x.float().numpy())
    data.obs["label"] = [("a", "b", "?")[i % 3] for i in range(CELLS)]
    data.obs["batch"] = [str(i % 2) for i in range(CELLS)]
    data.obsm["protein"] = torch.poisson(30 * torch.rand(CELLS, 7, generator=generator)).numpy()
    return data


def scvi_model(data: anndata.AnnData, **options: Any) -> Any:
    scvi.model.SCVI.setup_anndata(data, batch_key="batch")
    return scvi.model.SCVI(data, **options)


def scanvi(data: anndata.AnnData) -> Any:
    scvi.model.SCANVI.setup_anndata(
        data, labels_key="label", unlabeled_category="?", batch_key="batch"
    )
    return scvi.model.SCANVI(data)


def linear(data: anndata.AnnData) -> Any:
    scvi.model.LinearSCVI.setup_anndata(data, batch_key="batch")
    return scvi.model.LinearSCVI(data)


def totalvi(data: anndata.AnnData) -> Any:
    scvi.model.TOTALVI.setup_anndata(data, protein_expression_obsm_key="protein", batch_key="batch")
    return scvi.model.TOTALVI(data)


MODELS: dict[str, Callable[[anndata.AnnData], Any]] = {
    **{
        f"SCVI {law} {dispersion}": lambda data, law=law, dispersion=dispersion: scvi_model(
            data, gene_likelihood=law, dispersion=dispersion
        )
        for law, dispersion in (
            ("zinb", "gene"),
            ("nb", "gene"),
            ("poisson", "gene"),
            ("zinb", "gene-batch"),
            ("nb", "gene-cell"),
        )
    },
    "SCANVI": scanvi,
    "LinearSCVI": linear,
    "TOTALVI": totalvi,
}


@pytest.mark.parametrize("kind", ["synthetic", "digits"])
@pytest.mark.parametrize("name", MODELS)
def test_models_train_alike(name: str, kind: str) -> None:
    """From one seed to one ELBO."""
    data = counts(kind)
    options = {"early_stopping": False, "reduce_lr_on_plateau": False} if name == "TOTALVI" else {}

    def last() -> float:
        scvi.settings.seed = 3
        model = MODELS[name](data)
        model.train(
            max_epochs=3,
            train_size=1.0,
            batch_size=32,
            accelerator="cpu",
            enable_progress_bar=False,
            check_val_every_n_epoch=None,
            **options,
        )
        return float(np.ravel(model.history["elbo_train"].values[-1])[0])

    want = last()
    with patch():
        got = last()
    assert got == pytest.approx(want, rel=1e-5)


# ---- The patch -----------------------------------------------------------------------------------


def test_patches_nest_and_close_in_any_order() -> None:
    poisson = theirs.Poisson.log_prob
    first, second = patch(), patch()
    ours = theirs.log_nb_positive
    assert ours is not ORIGINAL["log_nb_positive"]
    assert ours.__name__ == "log_nb_positive"
    first.close()
    assert theirs.log_nb_positive is ours
    second.close()
    assert theirs.log_nb_positive is ORIGINAL["log_nb_positive"]
    assert theirs.Poisson.log_prob is poisson
    assert "log_prob" not in vars(theirs.Poisson)
    with patch(), patch():
        assert (
            scvi.distributions._negative_binomial.log_zinb_positive
            is not (ORIGINAL["log_zinb_positive"])
        )


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as m:
        m.delattr(theirs, "log_mixture_nb")
        with pytest.warns(UserWarning, match="this scvi-tools has no log_mixture_nb"):
            patch().close()
