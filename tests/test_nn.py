"""The modules: what the functions give, with parameters, state, copies and compilation."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

import vae_ext
from tests.rows import public
from vae_ext.nn import BernoulliNLL, ELBOLoss, GaussianLatent, GaussianNLL

MU, LOGVAR = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
X, T = torch.randn(5, 20), torch.rand(5, 20)


def test_standard_prior() -> None:
    latent = GaussianLatent()
    z, kl = latent(MU, LOGVAR, seed=3)
    want = vae_ext.reparameterize_with_kl(MU, LOGVAR, seed=3)
    assert torch.equal(z, want[0])
    assert torch.equal(kl, want[1])
    assert not list(latent.parameters())
    assert latent(MU, LOGVAR, n_samples=2)[0].shape == (2, *MU.shape)
    assert not torch.equal(latent(MU, LOGVAR)[0], latent(MU, LOGVAR)[0])
    assert latent.eval()(MU, LOGVAR)[0].shape == MU.shape


def test_learned_prior() -> None:
    latent = GaussianLatent((3, 1, 1))
    assert [n for n, _ in latent.named_parameters()] == ["prior_mu", "prior_logvar"]
    _, kl = latent(MU, LOGVAR, seed=3)
    torch.testing.assert_close(kl, vae_ext.gaussian_kl(MU, LOGVAR))  # N(0, I) at first
    optimizer = torch.optim.Adam(latent.parameters(), lr=0.1)
    first = kl.mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = latent(MU, LOGVAR)[1].mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < first
    # The best diagonal prior has the aggregate's mean and variance.
    mean = MU.mean((0, 2, 3), keepdim=True)[0]
    variance = (LOGVAR.exp() + (MU - mean) ** 2).mean((0, 2, 3), keepdim=True)[0]
    torch.testing.assert_close(latent.prior_mu.detach(), mean, atol=0.02, rtol=0.02)
    torch.testing.assert_close(latent.prior_logvar.detach(), variance.log(), atol=0.02, rtol=0.02)


def test_losses_are_the_functions() -> None:
    ll = vae_ext.bernoulli_log_likelihood(X, T, reduction="mean")
    assert torch.equal(BernoulliNLL()(X, T), -ll)
    events = vae_ext.gaussian_log_likelihood(X, T, -0.5)
    assert torch.equal(GaussianNLL(-0.5, reduction="event")(X, T), -events)
    assert torch.equal(
        GaussianNLL()(X, T, X), -vae_ext.gaussian_log_likelihood(X, T, X, reduction="mean")
    )
    m, v = torch.randn(5, 4), torch.randn(5, 4)
    assert torch.equal(ELBOLoss()(X, T, m, v), vae_ext.elbo_loss(X, T, m, v))
    loss = ELBOLoss("gaussian", obs_logvar=-1.0, beta=2.0, reduction="event")
    options = {"likelihood": "gaussian", "obs_logvar": -1.0, "reduction": "event"}
    assert torch.equal(loss(X, T, m, v), vae_ext.elbo_loss(X, T, m, v, beta=2.0, **options))
    assert torch.equal(loss(X, T, m, v, 0.3), vae_ext.elbo_loss(X, T, m, v, beta=0.3, **options))


def test_learned_variance() -> None:
    """It goes to the mean squared error."""
    m = torch.zeros(5, 4)
    for module, call in (
        (GaussianNLL(learned_variance=True), lambda f: f(X, T)),
        (ELBOLoss("gaussian", learned_variance=True), lambda f: f(X, T, m, m)),
    ):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        for _ in range(300):
            optimizer.zero_grad()
            call(module).backward()
            optimizer.step()
        (logvar,) = module.parameters()
        assert float(logvar.detach().exp()) == pytest.approx(
            float((X - T).square().mean()), rel=0.02
        )


MODULES = [
    GaussianLatent(),
    GaussianLatent((3, 1, 1), reduction="sum"),
    BernoulliNLL(event_dims=1),
    GaussianNLL(-1.0),
    GaussianNLL(learned_variance=True),
    ELBOLoss(),
    ELBOLoss("gaussian", learned_variance=True),
]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_conventions(module: nn.Module) -> None:
    for clone in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(clone) == repr(module)
        assert clone.state_dict().keys() == module.state_dict().keys()
        clone.load_state_dict(module.state_dict())
    assert all(p.dtype == torch.float64 for p in copy.deepcopy(module).double().parameters())
    assert "reduction=" in repr(module)


def test_compiled() -> None:
    latent, loss = GaussianLatent((4,)), ELBOLoss("gaussian", learned_variance=True)

    def step(m: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        z, kl = latent(m, v, seed=1)
        return loss(z, T[:, :4], m, v) + kl.mean()

    m, v = torch.randn(5, 4), torch.randn(5, 4)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(m, v), step(m, v))


def test_shapes_of_a_prior() -> None:
    assert GaussianLatent(4).prior_mu.shape == (4,)
    assert GaussianLatent(()).prior_mu.shape == (1,)
    mu = torch.randn(5, 4)
    torch.testing.assert_close(GaussianLatent(())(mu, mu)[1], vae_ext.gaussian_kl(mu, mu))
    # One that is larger than the latent would make a batch of its own.
    for shape in ((2, 4), (3, 5, 4), (3,)):
        with pytest.raises(ValueError, match=r"prior_shape had shape .*expected one that broadc"):
            GaussianLatent(shape)(mu[:1] if shape == (2, 4) else mu, mu)


@pytest.mark.parametrize("prior", [None, 4])
def test_latent_takes_all_of_its_noise(prior: int | None) -> None:
    latent, mu, noise = GaussianLatent(prior), torch.randn(5, 4), torch.randn(5, 4)
    z, _ = latent(mu, mu, seed=1, stream=2)
    assert torch.equal(z, vae_ext.reparameterize(mu, mu, seed=1, stream=2))
    z, _ = latent(mu, mu, noise=noise)
    assert torch.equal(z, vae_ext.reparameterize(mu, mu, noise=noise))


@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((2, 4), (4,)), ((4,), (1,))], ids=str)
def test_losses_do_not_broadcast(shapes: tuple[tuple[int, ...], ...]) -> None:
    """As BCEWithLogitsLoss: [B, 1] against [B] is a slip, not a batch of B times B."""
    prediction, target = (torch.rand(s) for s in shapes)
    for module in (BernoulliNLL(), GaussianNLL()):
        with pytest.raises(ValueError, match=r"target had shape .*expected that of"):
            module(prediction, target)


LEARNED = [
    lambda **options: GaussianNLL(-1.5, learned_variance=True, **options),
    lambda **options: ELBOLoss("gaussian", obs_logvar=-1.5, learned_variance=True, **options),
]


@pytest.mark.parametrize("make", LEARNED)
def test_learned_variance_on_meta(make: Callable[..., nn.Module]) -> None:
    """As sharded trainers make their models: on meta, then memory, then reset_parameters."""
    with torch.device("meta"):
        module = make()
    module.to_empty(device=torch.empty(0).device)
    module.reset_parameters()
    (logvar,) = module.parameters()
    assert logvar.ndim == 1  # FSDP2 refuses parameters without a dimension
    assert logvar.tolist() == [-1.5]
    assert "learned_variance=True" in repr(module)


def test_a_tensor_of_variances_is_a_buffer() -> None:
    variances = torch.randn(20)
    for module in (GaussianNLL(variances), ELBOLoss("gaussian", obs_logvar=variances)):
        assert not list(module.parameters())
        assert list(module.state_dict()) in (["logvar"], ["obs_logvar"])
        assert "learned" not in repr(module)
        assert all(b.dtype == torch.float64 for b in copy.deepcopy(module).double().buffers())
    m = torch.randn(5, 4)
    want = vae_ext.elbo_loss(X, T, m, m, likelihood="gaussian", obs_logvar=variances)
    assert torch.equal(module(X, T, m, m), want)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianLatent(-1), r"prior_shape was \[-1\]"),
        (lambda: GaussianLatent(reduction="max"), "reduction was 'max'"),
        (lambda: BernoulliNLL(reduction="max"), "reduction was 'max'"),
        (lambda: ELBOLoss("geometric"), "likelihood was 'geometric'"),
        (lambda: ELBOLoss(reduction="mean"), "reduction was 'mean'"),
        (lambda: ELBOLoss(learned_variance=True), "learned_variance was True"),
    ],
)
def test_errors(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_names() -> None:
    for name in public(vae_ext.nn):
        assert getattr(vae_ext.nn, name).__doc__
