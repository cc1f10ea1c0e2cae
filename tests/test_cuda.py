"""What only a GPU shows. Skipped without one, and failing under VAE_EXT_REQUIRE_CUDA=1.

The tests of the CPU kernels run on a GPU under `pytest --device cuda`; the first test does that.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import vae_ext
from tests.cases import REDUCING
from tests.devices import KERNELS
from tests.tolerances import assert_within
from tests.training import losses
from vae_ext._native import library as native

pytestmark = pytest.mark.cuda

ROOT = Path(__file__).resolve().parent.parent
CUDA = torch.device("cuda")
FILES = [*KERNELS, "errors", "compile", "modes", "transforms", "counts", "count_inputs"]
FILES += [
    "count_losses",
    "count_distributions",
    "objectives",
    "estimators",
    "multivariate",
    "priors",
    "nn",
    "node",
]


def test_the_tests_of_the_cpu_kernels(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--device") == "cuda":
        pytest.skip("this is that run")
    command = [sys.executable, "-m", "pytest", "-q", "--device", "cuda", "--show-capture=no"]
    command += [f"tests/test_{name}.py" for name in FILES]
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(min(8, os.cpu_count() or 1)), "--dist", "worksteal"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_the_kernels_are_ours() -> None:
    assert native.cuda_available, native.cuda_unavailable_reason
    from torch.profiler import ProfilerActivity, profile

    mu = torch.randn(64, 512, device=CUDA)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as prof:
        vae_ext.gaussian_kl(mu, mu)
        torch.cuda.synchronize()
    assert any("vae_ext" in event.name for event in prof.events())


# ---- Agreement with the CPU ----------------------------------------------------------------------


def test_words_are_the_same_bits() -> None:
    for seed, stream in ((0, 0), (-1, 3), (2**63 - 1, 2**40)):
        words = torch.empty(100_003, dtype=torch.int64, device=CUDA)
        torch.ops.vae_ext.philox_words(words, seed, stream)
        assert torch.equal(words.cpu(), vae_ext.testing.philox_words(100_003, seed, stream))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_noise_agrees_with_the_cpu(dtype: torch.dtype) -> None:
    size = (3, 100_001)
    ours = vae_ext.standard_normal(*size, seed=5, stream=1, dtype=dtype, device=CUDA)
    cpu = vae_ext.standard_normal(*size, seed=5, stream=1, dtype=dtype, device="cpu")
    tolerance = {torch.float32: 3e-6, torch.float64: 1e-13, torch.bfloat16: 2.0**-5}[dtype]
    assert float((ours.cpu().double() - cpu.double()).abs().max()) <= tolerance


@pytest.mark.parametrize("op", REDUCING, ids=repr)
@pytest.mark.parametrize("reduction", ["none", "event", "sum"])
def test_values_agree_with_the_cpu(op: object, reduction: str) -> None:
    inputs = [t.cpu().float() for t in op.inputs((7, 30_011))]  # type: ignore[attr-defined]
    function = op.function  # type: ignore[attr-defined]
    cpu = function(*inputs, reduction=reduction)
    ours = function(*[t.to(CUDA) for t in inputs], reduction=reduction)
    size = function(*inputs, reduction="none").abs()
    magnitude = op.magnitude(*[t.double() for t in inputs]).abs()  # type: ignore[attr-defined]
    magnitude = torch.maximum(size.double(), magnitude)
    if reduction == "event":
        magnitude = magnitude.sum(1)
    elif reduction == "sum":
        magnitude = magnitude.sum()
    assert_within(ours.cpu(), cpu.double(), magnitude, 24 * 2.0**-24)


# ---- Streams, graphs, devices --------------------------------------------------------------------


def everything(mu: Tensor, logvar: Tensor, seed: int | None = 3) -> list[Tensor]:
    mu, logvar = mu.detach().requires_grad_(), logvar.detach().requires_grad_()
    z, kl = vae_ext.reparameterize_with_kl(mu, logvar, seed=seed)
    ll = vae_ext.bernoulli_log_likelihood(z, torch.sigmoid(mu.detach()), reduction="mean")
    g = vae_ext.gaussian_log_likelihood(z, mu, logvar, reduction="sum")
    loss = kl.sum() - ll - 0.5 * g
    return [z, kl, ll, g, *torch.autograd.grad(loss, (mu, logvar))]


def test_the_same_bits_run_after_run() -> None:
    mu, logvar = torch.randn(2, 300, 5003, device=CUDA).unbind()
    want = everything(mu, logvar)
    for _ in range(50):
        for a, b in zip(want, everything(mu, logvar), strict=True):
            assert torch.equal(a, b)


def test_side_stream() -> None:
    """Kernels go to the current stream: behind what it is still doing, not beside it."""
    mu, logvar = torch.randn(2, 512, 4096, device=CUDA).unbind()
    want = everything(mu + 1, logvar)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        got = everything(mu + 1, logvar)
    stream.synchronize()
    for a, b in zip(want, got, strict=True):
        assert torch.equal(a, b)


def test_nothing_waits_for_the_device() -> None:
    mu, logvar = torch.randn(2, 64, 512, device=CUDA).unbind()
    everything(mu, logvar, None)
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything(mu, logvar, None)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("own", [False, True], ids=["default", "generator"])
def test_graph_replays_draw_fresh_noise(own: bool) -> None:
    mu, logvar = torch.randn(2, 64, 500, device=CUDA).unbind()
    generator = torch.Generator(CUDA).manual_seed(7) if own else None
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # warm
        vae_ext.reparameterize_with_kl(mu, logvar, generator=generator)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, generator=generator)
    draws = []
    for _ in range(4):
        graph.replay()
        draws.append(z.clone())
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    torch.testing.assert_close(kl, vae_ext.gaussian_kl(mu, logvar))
    mean = torch.stack([(d - mu) / torch.exp(0.5 * logvar) for d in draws]).mean()
    assert abs(float(mean)) < 5 / (4 * mu.numel()) ** 0.5


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(64, 32, device=CUDA)
        self.decoder = nn.Linear(16, 64, device=CUDA)

    def forward(self, x: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        z = vae_ext.reparameterize(mu, logvar)
        return vae_ext.elbo_loss(self.decoder(z), x, mu, logvar)


def train(wrap: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> list[float]:
    torch.manual_seed(0)
    model = VAE()
    step = wrap(model)
    return losses(model, step, torch.rand(128, 64, device=CUDA), 5, capturable=True)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_training_steps(mode: str) -> None:
    eager = train(lambda model: model)
    compiled = train(lambda model: torch.compile(model, fullgraph=True, mode=mode))
    assert eager[-1] < eager[0]
    if mode == "default":
        assert compiled == pytest.approx(eager, rel=1e-4)
    else:  # CUDA graphs take their seeds from the generator at other offsets
        assert compiled == pytest.approx(eager, rel=0.1)
        assert len(set(compiled)) == len(compiled)


def test_captured_training_step() -> None:
    torch.manual_seed(0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, capturable=True)
    x = torch.rand(128, 64, device=CUDA)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss: Tensor = model(x)
        loss.backward()
        optimizer.step()
        return loss.detach()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            first = step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    for _ in range(100):
        graph.replay()
    assert float(loss) < float(first)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_second_device() -> None:
    with torch.cuda.device(0):
        mu, logvar = torch.randn(2, 64, 500, device="cuda:1").unbind()
        there = everything(mu, logvar)
        here = everything(mu.to("cuda:0"), logvar.to("cuda:0"))
    for a, b in zip(there, here, strict=True):
        assert a.device == mu.device
        assert torch.equal(a.cpu(), b.cpu())


# ---- Size ----------------------------------------------------------------------------------------


def test_more_than_two_to_the_31_elements() -> None:
    """The last elements, at their own noise index, and a sum over all."""
    rows, columns = 4, (1 << 29) + 64  # 2^31 + 256 elements, 4 GiB in bfloat16
    mu = torch.zeros(columns, dtype=torch.bfloat16, device=CUDA)
    mu[-64:] = torch.arange(64, device=CUDA).bfloat16() / 8
    wide = mu.expand(rows, columns)
    z = vae_ext.reparameterize(wide, torch.zeros((), dtype=torch.bfloat16, device=CUDA), seed=11)
    # The words of the last elements, by the reference.
    first = rows * columns - 64
    block = torch.arange(first // 4, (first + 64) // 4, dtype=torch.int64)
    from vae_ext._reference import philox

    zero = torch.zeros_like(block, dtype=torch.int32)
    counter = (*philox.halves(block, block.device), zero, zero)
    words = torch.stack(philox.philox4x32_10(counter, philox.halves(11, block.device)), dim=-1)
    eps = philox.box_muller(words, torch.float64)
    want = eps + torch.arange(64, dtype=torch.float64) / 8
    assert float((z[-1, -64:].cpu().double() - want).abs().max()) <= 2.0**-4
    kl = vae_ext.gaussian_kl(wide, torch.zeros((), dtype=torch.bfloat16, device=CUDA))
    exact = float(0.5 * mu[-64:].double().square().sum())
    assert kl.tolist() == pytest.approx([exact] * rows, rel=1e-6)
    total = vae_ext.bernoulli_log_likelihood(wide, mu.new_zeros(()), reduction="mean")
    assert float(total) == pytest.approx(-0.6931472, rel=1e-5)


def test_peak_memory_of_a_likelihood_step() -> None:
    """Value and gradient in one pass: one gradient beside the inputs, no more than in two."""
    n = 1 << 24
    x = torch.randn(n, device=CUDA, requires_grad=True)
    t = torch.rand(n, device=CUDA)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    (-vae_ext.bernoulli_log_likelihood(x, t, reduction="mean")).backward()
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before <= 4 * n + (1 << 20)


@pytest.mark.parametrize("weight", [1.0, -0.3, 0.0])
def test_gradients_written_ahead_are_scaled_on_the_device(weight: float) -> None:
    x = torch.randn(33, 1001, device=CUDA, requires_grad=True)
    t = torch.rand(33, 1001, device=CUDA)
    ll = vae_ext.bernoulli_log_likelihood(x, t, reduction="sum")
    (got,) = torch.autograd.grad(ll * weight, x)
    none = vae_ext.bernoulli_log_likelihood(x, t, reduction="none").sum()
    (want,) = torch.autograd.grad(none * weight, x)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)
