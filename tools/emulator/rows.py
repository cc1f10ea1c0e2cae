"""What is counted: passes of the ops over tensors that are large, of which some blocks are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import vae_ext
from vae_ext.distributions import DiagonalGaussian

LARGE = (4096, 16384)
KNOWN = 1 << 18  # elements that have values: those of the blocks that are run


class Row(NamedTuple):
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    words: float  # moved for an element, at the tensors' width
    run: Callable[[], object]

    @property
    def key(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{self.name} | {str(self.dtype).removeprefix('torch.')} | {size}"


def normal(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Of which the first elements are written: the rest is memory that nobody touches."""
    t = torch.empty(shape, dtype=dtype)
    known = t.view(-1)[:KNOWN]
    known.copy_(torch.randn(known.shape))
    return t


def unit(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    t = normal(shape, dtype)
    known = t.view(-1)[:KNOWN]
    known.copy_(torch.rand(known.shape))
    return t


def counts(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Nine zeros in ten, as single cells have."""
    t = unit(shape, dtype)
    known = t.view(-1)[:KNOWN]
    known.copy_((torch.rand(known.shape) > 0.9) * torch.randint(1, 20, known.shape))
    return t


class Pass:
    """The forward pass of a function, and the backward pass alone."""

    def __init__(self, function: Callable[..., object], *inputs: Tensor) -> None:
        self.function, self.inputs = function, inputs
        self.made: tuple[tuple[Tensor, ...], list[Tensor]] | None = None

    def forward(self) -> None:
        with torch.no_grad():
            self.function(*self.inputs)

    def both(self) -> None:
        """Where values and gradients come from one kernel."""
        self.outputs()

    def outputs(self) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in self.inputs]
        out = self.function(*leaves)
        outs = out if isinstance(out, tuple) else (out,)
        return tuple(o for o in outs if o.requires_grad), [t for t in leaves if t.requires_grad]

    def prepare(self) -> Pass:
        self.made = self.outputs()
        return self

    def backward(self) -> None:
        assert self.made
        outs, leaves = self.made
        grads = [normal(tuple(o.shape), o.dtype) if o.ndim else torch.ones_like(o) for o in outs]
        torch.autograd.grad(outs, leaves, grads, retain_graph=True, allow_unused=True)


# A name, the passes, and the words that each kind of pass moves for an element: "f" forward,
# "b" backward, "1" both in one kernel.
Part = Iterator[tuple[str, Pass, dict[str, float]]]


def sample(mu: Tensor, logvar: Tensor) -> Tensor:
    return vae_ext.reparameterize(mu, logvar, seed=1)


def sample_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return vae_ext.reparameterize_with_kl(mu, logvar, seed=1)


def sampling(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    mu, logvar = normal(shape, dtype), normal(shape, dtype)
    yield "sample", Pass(sample, mu, logvar), {"f": 3, "b": 3}
    yield "sample_kl", Pass(sample_kl, mu, logvar), {"f": 3, "b": 5}


def densities(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    a, b, c, d = (normal(shape, dtype) for _ in range(4))
    target = unit(shape, dtype)
    bernoulli, gaussian = vae_ext.bernoulli_log_likelihood, vae_ext.gaussian_log_likelihood
    yield "kl", Pass(vae_ext.gaussian_kl, a, b), {"f": 2, "b": 4}
    yield "kl_prior", Pass(vae_ext.gaussian_kl, a, b, c, d), {"f": 4, "b": 8}
    yield "bernoulli", Pass(bernoulli, a, target), {"f": 2, "b": 4}
    means: list[tuple[str, Callable[..., Tensor], tuple[Tensor, ...], int]] = [
        ("bernoulli", lambda x: bernoulli(x, target, reduction="mean"), (a,), 3),
        ("gaussian", lambda m, v: gaussian(m, b, v, reduction="mean"), (a, c), 5),
        ("gaussian_fixed", lambda m: gaussian(m, b, reduction="mean"), (a,), 3),
    ]
    for name, function, inputs, words in means:
        yield f"{name} mean", Pass(function, *inputs), {"1": words}


def special(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    a, b, c = (normal(shape, dtype) for _ in range(3))
    x, rate = counts(shape, dtype), unit(shape, dtype)

    def elementwise(mu: Tensor, logvar: Tensor) -> Tensor:
        return vae_ext.gaussian_kl(mu, logvar, reduction="none")

    def bounded(soft: bool) -> Callable[..., tuple[Tensor, Tensor]]:
        def both(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
            d = DiagonalGaussian(mu, logvar, bounds=(-30.0, 20.0), soft=soft, validate_args=False)
            return d.rsample_with_kl(seed=1)

        return both

    def laplace(loc: Tensor, log_scale: Tensor) -> Tensor:
        return vae_ext.laplace_log_likelihood(loc, b, log_scale, reduction="mean")

    def student_t(loc: Tensor, df: Tensor, log_scale: Tensor) -> Tensor:
        return vae_ext.student_t_log_likelihood(loc, b, df, log_scale, reduction="mean")

    def continuous_bernoulli(logits: Tensor) -> Tensor:
        return vae_ext.continuous_bernoulli_log_likelihood(logits, rate, reduction="mean")

    def poisson(rate: Tensor) -> Tensor:
        return vae_ext.poisson_log_likelihood(rate, x, reduction="mean")

    def negative_binomial(mean: Tensor, dispersion: Tensor) -> Tensor:
        return vae_ext.negative_binomial_log_likelihood(mean, x, dispersion, reduction="mean")

    yield "kl none", Pass(elementwise, a, b), {"f": 3}
    for soft in (False, True):
        name = "soft bounds" if soft else "hard bounds"
        yield f"sample_kl {name}", Pass(bounded(soft), a, b), {"f": 3, "b": 5}
    yield "laplace mean", Pass(laplace, a, c), {"1": 5}
    yield "student_t mean", Pass(student_t, a, rate + 1, c), {"1": 7}
    yield "continuous_bernoulli mean", Pass(continuous_bernoulli, a), {"1": 3}
    yield "poisson mean", Pass(poisson, rate), {"1": 3}
    yield "negative_binomial mean", Pass(negative_binomial, rate, rate.clone()), {"1": 5}


def draws(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    def draw(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
        return vae_ext.estimators.draw(mu, logvar, 4, seed=1)[:3]

    inputs = (normal(shape, dtype), normal(shape, dtype))
    yield "draw of 4", Pass(draw, *inputs), {"f": 6, "b": 8}


def layouts(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    a = normal(shape, dtype)
    odd = normal((a.numel() + 1,), dtype)[1:].view(shape)
    yield "kl misaligned", Pass(vae_ext.gaussian_kl, a, odd), {"f": 2}
    images = (shape[0], 16, shape[1] // 1024, 64)
    last = [normal(images, dtype).permute(0, 3, 1, 2) for _ in range(2)]
    yield "kl channels_last", Pass(vae_ext.gaussian_kl, *last), {"f": 2}
    wide = unit(shape, torch.float32)
    for name, target in (("bool", wide > 0.5), ("float32", wide)):
        words = 1 + target.element_size() / a.element_size()

        def bernoulli(logits: Tensor, target: Tensor = target) -> Tensor:
            return vae_ext.bernoulli_log_likelihood(logits, target)

        yield f"bernoulli {name} target", Pass(bernoulli, a), {"f": words}


# Elements that have several parameters, [parameters, elements], each of which is read twice.
def classes(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    target = torch.zeros((1, shape[1]), dtype=torch.uint8)

    def categorical(logits: Tensor) -> Tensor:
        return vae_ext.categorical_log_likelihood(logits[None], target, reduction="mean")

    yield "categorical mean", Pass(categorical, normal(shape, dtype)), {"1": 3}


def mixtures(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    x = torch.zeros((1, 3, shape[1]), dtype=torch.uint8)

    def mixture(p: Tensor) -> Tensor:
        return vae_ext.discretized_logistic_mixture_log_likelihood(p[None], x, reduction="mean")

    yield "discretized_logistic_mixture mean", Pass(mixture, normal(shape, dtype)), {"1": 3}


# Events of eight dimensions against so many components: an element is of an event, and reads all.
COMPONENTS = 64


def mixture_density(shape: tuple[int, ...], dtype: torch.dtype) -> Part:
    parameters = (normal((COMPONENTS, shape[1]), dtype) for _ in range(2))
    inputs = (normal(shape, dtype), *parameters)
    yield "mixture_log_density of 64", Pass(vae_ext.mixture_log_density, *inputs), {"f": 1, "b": 2}


NAMES = {"f": "forward", "b": "backward", "1": "one pass"}


def rows() -> Iterator[Row]:
    plan: list[tuple[Callable[[tuple[int, ...], torch.dtype], Part], tuple[int, ...]]] = [
        (part, LARGE) for part in (sampling, densities, special, draws, layouts)
    ]
    plan += [(classes, (256, 1 << 18)), (mixtures, (100, 1 << 19))]
    plan.append((mixture_density, (1 << 12, 8)))
    for size in (20, 64, 784):
        plan += [(part, (1 << 16, size)) for part in (sampling, densities, draws)]
    for part, shape in plan:
        for dtype in (torch.float32, torch.bfloat16):
            for name, passes, kinds in part(shape, dtype):
                for kind, words in kinds.items():
                    if kind == "b":
                        passes.prepare()
                    run = {"f": passes.forward, "b": passes.backward, "1": passes.both}[kind]
                    yield Row(f"{name}, {NAMES[kind]}", dtype, shape, words, run)
