"""What is kept for backward: inputs, outputs and the seed. Nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

import vae_ext
from tests.cases import REDUCING, Case
from tests.devices import generator
from vae_ext.distributions import DiagonalGaussian


def saved_by(function: Callable[[], object]) -> list[Tensor]:
    saved: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        function()
    return saved


MU, LOGVAR = (torch.randn(3, 40, requires_grad=True) for _ in range(2))
MOMENTS = torch.randn(3, 4, 10, requires_grad=True)
NOISE = torch.randn(3, 40)

Saving = tuple[str, Callable[[], object], list[Tensor]]


def saved_by_case(case: Case) -> list[Saving]:
    """With all its arguments, and with the two that every op must have."""
    tensors = case.leaves(t.float() for t in case.inputs((3, 40)))
    return [
        (f"{case}-{n}", lambda t=tensors[:n]: case.function(*t), tensors[:n])  # type: ignore[misc]
        for n in {case.least, len(tensors)}
    ]


CASES: list[Saving] = [
    ("sample", lambda: vae_ext.reparameterize(MU, LOGVAR), [LOGVAR]),
    ("sample_noise", lambda: vae_ext.reparameterize(MU, LOGVAR, noise=NOISE), [LOGVAR, NOISE]),
    ("sample_many", lambda: vae_ext.reparameterize(MU, LOGVAR, n_samples=8), [LOGVAR]),
    ("sample_kl", lambda: vae_ext.reparameterize_with_kl(MU, LOGVAR), [MU, LOGVAR]),
    (
        "sample_kl_generator",
        lambda: vae_ext.reparameterize_with_kl(MU, LOGVAR, generator=generator()),
        [MU, LOGVAR],
    ),
    ("draw", lambda: vae_ext.estimators.draw(MU, LOGVAR, 8), [MU, LOGVAR]),
    (
        "packed",
        lambda: DiagonalGaussian.from_moments(MOMENTS, bounds=(-1.0, 1.0)).rsample_with_kl(),
        [MOMENTS],
    ),
    *(c for case in REDUCING if case.measured for c in saved_by_case(case)),
]


@pytest.mark.parametrize(("function", "inputs"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_saved_for_backward(function: Callable[[], object], inputs: list[Tensor]) -> None:
    storages = {t.untyped_storage().data_ptr() for t in inputs}
    others = [t for t in saved_by(function) if t.untyped_storage().data_ptr() not in storages]
    # At most the seed, where it is a tensor.
    assert sum(t.numel() * t.element_size() for t in others) <= 8


def test_the_check_sees_what_eager_code_keeps() -> None:
    def eager() -> Tensor:
        std = torch.exp(0.5 * LOGVAR)
        return MU + std * torch.randn_like(std)

    storages = {t.untyped_storage().data_ptr() for t in (MU, LOGVAR)}
    others = [t for t in saved_by(eager) if t.untyped_storage().data_ptr() not in storages]
    assert sum(t.numel() for t in others) >= 2 * MU.numel()


def test_nothing_is_kept_without_gradients() -> None:
    with torch.no_grad():
        assert saved_by(lambda: vae_ext.reparameterize_with_kl(MU, LOGVAR)) == []
    assert saved_by(lambda: vae_ext.gaussian_kl(MU.detach(), LOGVAR.detach())) == []


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("poisson", 2, 2),
        ("negative_binomial", 3, 2),
        ("zero_inflated_negative_binomial", 4, 3),
    ],
)
def test_words_kept_of_counts(name: str, arguments: int, words: int) -> None:
    """The mean, the counts and the logits of an inflated 0, and a row of dispersions."""
    cells, genes = 16, 300
    mean, x = torch.rand(cells, genes).add_(0.1).requires_grad_(), torch.ones(cells, genes)
    theta = torch.ones(genes, requires_grad=True)
    logits = torch.zeros(cells, genes, requires_grad=True)
    function = getattr(vae_ext, f"{name}_log_likelihood")
    inputs = [mean, x, theta, logits][:arguments]
    saved = {t.data_ptr(): t for t in saved_by(lambda: function(*inputs))}
    kept = sum(t.untyped_storage().nbytes() for t in saved.values())
    rows = theta.untyped_storage().nbytes() if theta.data_ptr() in saved else 0
    assert kept - rows == 4 * words * cells * genes
    assert rows == (0 if arguments == 2 else 4 * genes)
