"""What is compared: each op, forward and backward, as usually written and with vae_ext."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import vae_ext
from tests.cases import REDUCING, Case
from vae_ext._formulas import normal
from vae_ext.distributions import DiagonalGaussian

Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Contenders:
    """Functions of the same inputs, whose outputs mean the same.

    `words` counts what forward and backward must move per element, each input and output of either
    pass once; for the scalar likelihoods, value and gradient in one pass.
    """

    eager: Function
    distributions: Function
    ours: Function
    needs_grad: tuple[bool, ...]
    words: int
    samples: int = 1  # results of the size of the inputs
    parts: int = 1  # of that size, side by side in each input
    added: bool = False  # scalars are terms of a loss, and no log-likelihoods
    # Inputs that are made of standard normals in some way, by their place.
    makes: Mapping[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)


BOUNDS = (-30.0, 20.0)  # on the log-variances of packed moments, as in diffusers
SAMPLES = 16  # of the ops that draw several


def standard(t: Tensor) -> Normal:
    return Normal(torch.zeros_like(t), torch.ones_like(t), validate_args=False)


def eager_sample(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    std = torch.exp(0.5 * logvar)
    return (mu + std * torch.randn_like(std),)


def eager_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    return (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1),)


def eager_sample_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    return *eager_sample(mu, logvar), *eager_kl(mu, logvar)


def distributions_sample_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    q = normal(mu, logvar)
    return q.rsample(), kl_divergence(q, standard(mu)).sum(1)


def eager_packed(moments: Tensor) -> tuple[Tensor, ...]:
    mu, logvar = moments.chunk(2, dim=1)
    return eager_sample_kl(mu, logvar.clamp(*BOUNDS))


def distributions_packed(moments: Tensor) -> tuple[Tensor, ...]:
    mu, logvar = moments.chunk(2, dim=1)
    return distributions_sample_kl(mu, logvar.clamp(*BOUNDS))


def packed(moments: Tensor) -> tuple[Tensor, ...]:
    return DiagonalGaussian.from_moments(
        moments, bounds=BOUNDS, validate_args=False
    ).rsample_with_kl()


def eager_draw(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    std = torch.exp(0.5 * logvar)
    eps = torch.randn(SAMPLES, *mu.shape, dtype=mu.dtype, device=mu.device)
    z = mu + std * eps
    constant = math.log(2 * math.pi)
    log_q = -0.5 * (constant + logvar + eps.pow(2)).sum(-1)
    return z, log_q, -0.5 * (constant + z.pow(2)).sum(-1)


def distributions_draw(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    q = normal(mu, logvar)
    z = q.rsample((SAMPLES,))
    return z, q.log_prob(z).sum(-1), standard(mu).log_prob(z).sum(-1)


def eager_gaussian_fixed(mean: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return (0.5 * F.mse_loss(mean, target) + 0.5 * math.log(2 * math.pi),)


def of_case(case: Case, reduction: str) -> Contenders:
    """What people write of a case, beside it: means of likelihoods, event sums of divergences."""

    def one(function: Callable[..., Tensor]) -> Function:
        return lambda *inputs: (function(*inputs, reduction=reduction),)

    eager = case.naive.get("eager") or case.naive["F"]
    return Contenders(
        one(eager.function),
        one(case.naive["distributions"].function),
        one(case.function),
        tuple(name != "target" for name in case.arguments),
        case.words,
        added=not case.likelihood,
        makes={i: case.makes[name] for i, name in enumerate(case.arguments) if name in case.makes},
    )


FORMULAS = {
    case.name.removesuffix("_log_likelihood").replace("gaussian_kl", "kl"): (
        case,
        "mean" if case.likelihood else "event",
    )
    for case in REDUCING
    if case.words
}
OPS = {
    "sample_kl": Contenders(
        eager_sample_kl,
        distributions_sample_kl,
        vae_ext.reparameterize_with_kl,
        (True, True),
        8,
    ),
    "sample": Contenders(
        eager_sample,
        lambda mu, logvar: (normal(mu, logvar).rsample(),),
        lambda mu, logvar: (vae_ext.reparameterize(mu, logvar),),
        (True, True),
        6,
    ),
    "packed": Contenders(
        eager_packed,
        distributions_packed,
        packed,
        (True,),
        8,
        parts=2,
    ),
    "draw_16": Contenders(
        eager_draw,
        distributions_draw,
        lambda mu, logvar: vae_ext.estimators.draw(mu, logvar, SAMPLES)[:3],
        (True, True),
        2 * SAMPLES + 6,
        samples=SAMPLES,
    ),
    **{name: of_case(case, reduction) for name, (case, reduction) in FORMULAS.items()},
    "kl_batchmean": replace(of_case(FORMULAS["kl"][0], "batchmean"), words=4),  # in one pass
    "gaussian_fixed": Contenders(
        eager_gaussian_fixed,
        lambda mean, x: (Normal(mean, 1.0, validate_args=False).log_prob(x).mean(),),
        lambda mean, x: (vae_ext.gaussian_log_likelihood(mean, x, reduction="mean"),),
        (True, False),
        3,
    ),
}
BASELINES = ("eager", "distributions", "compile", "compile-max")
DEFAULT_BASELINES = BASELINES[:3]
# What torch.compile can do at the most: every variant tried, and the program around the kernels in
# C++. It compiles for half a minute.
COMPILE_MAX = {
    **torch._inductor.list_mode_options("max-autotune-no-cudagraphs"),
    "cpp_wrapper": True,
}


def compiled(name: str, function: Function) -> Function:
    torch._dynamo.reset()
    options = COMPILE_MAX if name == "compile-max" else None
    found: Function = torch.compile(function, fullgraph=True, dynamic=False, options=options)
    return found


LOG_LIKELIHOODS = ("distributions", "vae_ext")  # whose scalars are these, and not losses


class Contest:
    """An op's contenders on the same inputs: forward and backward of each, and a copy that moves as
    many bytes as the op must."""

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
        baselines: tuple[str, ...],
    ) -> None:
        op = OPS[name]
        self.inputs = [
            op.makes.get(i, torch.clone)(torch.randn(shape[0], op.parts * shape[1], device=device))
            .to(dtype)
            .requires_grad_(needed)
            for i, needed in enumerate(op.needs_grad)
        ]
        self.leaves = [t for t in self.inputs if t.requires_grad]
        self.functions = {"vae_ext": op.ours}
        for baseline in baselines:
            if baseline.startswith("compile"):
                self.functions[baseline] = compiled(baseline, op.eager)
            else:
                self.functions[baseline] = getattr(op, baseline)
        elements = shape[0] * shape[1]
        self.bytes = op.words * elements * self.inputs[0].element_size()
        source = torch.zeros(max(1, self.bytes // 8), dtype=torch.int32, device=device)
        target = torch.empty_like(source)
        # A loss subtracts a log-likelihood and adds a cross-entropy.
        self.grads = {
            name: [
                torch.randn_like(out)
                if out.ndim
                else torch.ones_like(out) * (-1 if name in LOG_LIKELIHOODS and not op.added else 1)
                for out in function(*self.inputs)
            ]
            for name, function in self.functions.items()
        }
        self.steps = {name: self.step(name) for name in self.functions}
        self.steps["copy"] = lambda: target.copy_(source)

    def forward(self, name: str) -> tuple[Tensor, ...]:
        return self.functions[name](*self.inputs)

    def step(self, name: str) -> Callable[[], object]:
        function, grads, inputs, leaves = (
            self.functions[name],
            self.grads[name],
            self.inputs,
            self.leaves,
        )
        return lambda: torch.autograd.grad(function(*inputs), leaves, grads)
