"""What goes wrong around the kernels: stale memory, edits between forward and backward, forks, and
gradients that are asked for twice, in part or not at all."""

from __future__ import annotations

import copy
import ctypes
import hashlib
import io
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import vae_ext
from tests.cases import REDUCING, Case, wanted

SHAPES = [(7,), (3, 401), (2, 3, 5, 7), (5, 9000)]
REDUCTIONS = ["none", "event", "sum", "mean", "batchmean"]


# ---- Stale memory --------------------------------------------------------------------------------


M_PERTURB = -6  # of glibc's mallopt: what is allocated is filled with the complement of a byte
POISON = float(torch.tensor(0x7F7F7F7F, dtype=torch.int32).view(torch.float32))


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory comes from the allocator full of 3.4e38, or of NaN for float16."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        pytest.skip("the C library has no mallopt")
    mallopt(M_PERTURB, 0x80)
    yield
    mallopt(M_PERTURB, 0)


def clean(t: Tensor) -> bool:
    return bool((t.abs().double() < 1e30).all())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_outputs_are_written_whole(shape: tuple[int, ...], reduction: str, poisoned: None) -> None:
    for op in REDUCING:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            leaves = op.leaves(t.to(dtype) for t in op.inputs(shape))
            out = op.function(*leaves, reduction=reduction)
            grads = torch.autograd.grad(out, wanted(leaves), torch.ones_like(out))
            assert all(map(clean, (out, *grads))), op
    mu, logvar = (torch.randn(shape, requires_grad=True) for _ in range(2))
    for n_samples in (None, 3):
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, n_samples=n_samples, reduction=reduction)
        ones = torch.ones_like(z), torch.ones_like(kl)
        assert all(map(clean, (z, kl, *torch.autograd.grad((z, kl), (mu, logvar), ones))))


def test_the_poison_is_there(poisoned: None) -> None:
    for n in (10, 9973, 1_000_000):
        assert torch.empty(n).eq(POISON).all()
    assert not clean(torch.empty(5, dtype=torch.float16))


# ---- Edits between forward and backward ----------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_editing_what_was_saved_raises(op: Case, reduction: str) -> None:
    for i in range(len(op.inputs((1,)))):
        for edit in ("itself", "view", "base"):
            bases = [torch.cat([t.float(), t.float()]) for t in op.inputs((4, 6))]
            inputs = [b[:4] for b in bases]
            leaf = torch.zeros((), requires_grad=True)
            out = op.function(
                inputs[0] + leaf if i else inputs[0], *inputs[1:], reduction=reduction
            )
            if not out.requires_grad:
                inputs[0] = inputs[0].requires_grad_()
                out = op.function(*inputs, reduction=reduction)
            with torch.no_grad():
                {"itself": inputs[i], "view": inputs[i][2:, :1], "base": bases[i][1:]}[edit].mul_(2)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                out.sum().backward()


def test_editing_mu_of_a_sample_is_allowed() -> None:
    """No gradient of z depends on mu, so nothing of it is kept."""
    mu = torch.randn(3, 4)
    logvar = torch.randn(3, 4, requires_grad=True)
    z = vae_ext.reparameterize(mu, logvar, seed=1)
    mu.zero_()
    z.sum().backward()
    with torch.no_grad():
        z = vae_ext.reparameterize(mu, logvar, seed=1)
    other = vae_ext.reparameterize(mu, logvar, seed=1)
    with torch.no_grad():
        logvar.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        other.sum().backward()


# ---- Gradients: twice, in part, through other machinery ------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_backward_twice(op: Case, reduction: str) -> None:
    leaves = op.leaves(t.float() for t in op.inputs((4, 300)))
    out = op.function(*leaves, reduction=reduction)
    leaves = wanted(leaves)
    grad = torch.randn(out.shape)
    first = torch.autograd.grad(out, leaves, grad, retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(out, leaves, grad, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.autograd.grad(out, leaves, 3 * grad)  # must not scale what was given away
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, leaves, grad)


@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_accumulation(op: Case) -> None:
    leaves = op.leaves(t.float() for t in op.inputs((4, 30)))
    for _ in range(2):
        op.function(*leaves, reduction="mean").neg().backward()
    (want,) = torch.autograd.grad(-op.function(*leaves, reduction="mean"), leaves[:1])
    assert leaves[0].grad is not None
    torch.testing.assert_close(leaves[0].grad, 2 * want)


@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_nothing_is_computed_for_inputs_that_need_nothing(op: Case) -> None:
    """Memory tells: backward allocates the gradient that is wanted, and no other."""
    from tests.devices import allocated_by

    n = 1 << 16
    inputs = [t.float() for t in op.inputs((16, n // 16))]
    for i in range(len(inputs)):
        leaves = op.leaves(inputs, [j == i for j in range(len(inputs))])
        if not wanted(leaves):
            continue
        out = op.function(*leaves)
        grad = torch.ones_like(out)
        used = allocated_by(lambda o=out, t=leaves[i], g=grad: torch.autograd.grad(o, t, g))
        assert 4 * n <= used < 6 * n


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_checkpointing(op: Case, reduction: str) -> None:
    leaves = op.leaves(t.float() for t in op.inputs((4, 300)))

    def function(*t: Tensor) -> Tensor:
        return op.function(*(x * 1.5 for x in t[:1]), *t[1:], reduction=reduction).sum()

    want = torch.autograd.grad(function(*leaves), wanted(leaves))
    for reentrant in (False, True):
        out = checkpoint(function, *leaves, use_reentrant=reentrant)
        got = (
            torch.autograd.grad(out, wanted(leaves))
            if not reentrant
            else (out.backward(), *(t.grad for t in wanted(leaves)))[1:]  # type: ignore[func-returns-value]
        )
        for a, b in zip(want, got, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        mu, logvar = self.encode(x).chunk(2, dim=1)
        z = vae_ext.reparameterize(mu, logvar, seed=3)
        return vae_ext.elbo_loss(self.decode(z), x, mu, logvar)


def test_modules() -> None:
    """functional_call, deepcopy and a state written and read: the loss they give is the same."""
    model, x = Model(), torch.rand(5, 12)
    want = model(x)
    state = {k: v.detach().clone().requires_grad_() for k, v in model.state_dict().items()}
    out = torch.func.functional_call(model, state, (x,))
    assert torch.equal(out, want)
    grads = torch.autograd.grad(out, list(state.values()))
    assert all(g.abs().sum() > 0 for g in grads)
    assert torch.equal(copy.deepcopy(model)(x), want)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), want)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = Model()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x), want)


# ---- Forks and repetitions -----------------------------------------------------------------------


class Losses(Dataset[Tensor]):
    """Data that comes through the kernels, as an encoder in a worker gives it."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Tensor:
        mu = torch.full((50_000,), float(i))
        z, kl = vae_ext.reparameterize_with_kl(mu, torch.zeros_like(mu), seed=i, event_dims=1)
        return torch.cat([z, kl[None]])


def test_fork_after_use() -> None:
    """Workers of a DataLoader fork from a process whose threads have run the kernels."""
    want = [Losses()[i] for i in range(6)]
    loader = DataLoader(
        Losses(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    got = list(loader)
    assert len(got) == 6
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


def digest(tensors: list[Tensor]) -> str:
    sha = hashlib.sha256()
    for t in tensors:
        array = t.detach().contiguous().numpy()
        sha.update(ctypes.string_at(array.ctypes.data, array.nbytes))
    return sha.hexdigest()


def test_a_hundred_repetitions() -> None:
    mu, logvar, x = (torch.randn(300, 1271, requires_grad=True) for _ in range(3))
    target = torch.rand(300, 1271)

    def step() -> str:
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, seed=2)
        loss = (kl - vae_ext.bernoulli_log_likelihood(x, target)).mean() + z.sum()
        return digest([z, kl, loss, *torch.autograd.grad(loss, (mu, logvar, x))])

    assert len({step() for _ in range(100)}) == 1


# ---- More than 2^31 elements ---------------------------------------------------------------------

BIG = (1 << 31) + 7


@pytest.mark.big
def test_more_than_two_to_31_expanded() -> None:
    """Inputs of one element, expanded: sums are right to the last element."""
    mu, logvar = torch.tensor([0.5]).expand(BIG), torch.tensor([0.25]).expand(BIG)
    one = vae_ext.gaussian_kl(mu[:1], logvar[:1], reduction="sum").double()
    total = vae_ext.gaussian_kl(mu, logvar, reduction="sum")
    assert abs(float(total) / (BIG * float(one)) - 1) < 5e-7
    row = vae_ext.gaussian_kl(mu.view(1, BIG), logvar.view(1, BIG))
    assert torch.equal(row[0], total)


@pytest.mark.big
def test_more_than_two_to_31_dense() -> None:
    """The last elements of a dense sample have the noise of their own indices."""
    from vae_ext._reference import philox

    mu = torch.zeros(1, dtype=torch.bfloat16).expand(BIG)
    z = vae_ext.reparameterize(mu, mu, seed=5)
    assert z.shape == (BIG,)
    for start in (0, (1 << 31) - 8, BIG - 7):
        first = start // 4
        block = torch.arange(first, first + 3)
        zero = torch.zeros_like(block, dtype=torch.int32)
        counter = (*philox.halves(block, block.device), zero, zero)
        words = torch.stack(philox.philox4x32_10(counter, philox.halves(5, block.device)), 1)
        n = min(7, BIG - start)
        eps = philox.box_muller(words, torch.float64)[start % 4 :][:n]
        torch.testing.assert_close(z[start : start + n].double(), eps, rtol=2.0**-8, atol=1e-6)
