"""The variance of gradient estimates of the bound against the size of the latent and the number of
samples: what reparameterization buys. Draws docs/pictures/gradient-variance.png.

    python examples/gradient_variance.py --out docs/pictures

The decoder is linear, x|z ~ N(W z, I) with 64 pixels, and q(z|x) = N(0, exp(-1) I) is not yet the
posterior. The quantity is the variance of one component of the gradient by mu, averaged over the
components.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

import vae_ext
from vae_ext import estimators

PIXELS = 64
SIZES = [2, 4, 8, 16, 32, 64, 128, 256]
SAMPLES = [1, 2, 4, 8, 16, 32, 64]
SIZE, L = 32, 8  # of the other panel's axis

Estimate = Callable[[Tensor, Tensor, "Decoder", int], Tensor]


class Decoder:
    """log p(x|z) of z [..., size], for one x."""

    def __init__(self, size: int) -> None:
        g = torch.Generator().manual_seed(size)
        self.w = torch.randn(PIXELS, size, generator=g) / size**0.5
        self.x = self.w @ torch.randn(size, generator=g) + torch.randn(PIXELS, generator=g)

    def __call__(self, z: Tensor) -> Tensor:
        mean = z @ self.w.T
        return vae_ext.gaussian_log_likelihood(mean, self.x.expand_as(mean), event_dims=1)


def score(baseline: bool) -> Estimate:
    def estimate(mu: Tensor, logvar: Tensor, decoder: Decoder, n: int) -> Tensor:
        s = estimators.draw(mu, logvar, n, gradient="score")
        return estimators.score_function(decoder(s.z), s, baseline=baseline)

    return estimate


def sgvb_a(gradient: str) -> Estimate:
    def estimate(mu: Tensor, logvar: Tensor, decoder: Decoder, n: int) -> Tensor:
        s = estimators.draw(mu, logvar, n, gradient=gradient)
        return estimators.sgvb_a(decoder(s.z), s)

    return estimate


def sgvb_b(mu: Tensor, logvar: Tensor, decoder: Decoder, n: int) -> Tensor:
    z = vae_ext.reparameterize(mu, logvar, n_samples=n)
    return estimators.sgvb_b(decoder(z), vae_ext.gaussian_kl(mu, logvar))


ESTIMATES: dict[str, Estimate] = {
    "score function": score(baseline=False),
    "score function, leave-one-out": score(baseline=True),
    "reparameterized, SGVB A": sgvb_a("reparameterized"),
    "reparameterized, SGVB B": sgvb_b,
    "sticking the landing": sgvb_a("sticking-the-landing"),
}


def gradients(estimate: Estimate, size: int, n: int, repeats: int) -> Tensor:
    """[repeats, size]: every row an estimate of its own, of one gradient."""
    decoder = Decoder(size)
    rows = max(1, 2**20 // (n * max(size, PIXELS)))
    found: list[Tensor] = []
    for start in range(0, repeats, rows):
        mu = torch.zeros(min(rows, repeats - start), size, requires_grad=True)
        value = estimate(mu, torch.full_like(mu, -1.0), decoder, n)
        found.extend(torch.autograd.grad(value.sum(), mu))
    return torch.cat(found).double()


def needs(name: str) -> int:
    return 2 if "leave-one-out" in name else 1


def curve(name: str, points: list[tuple[int, int]], repeats: int) -> tuple[list[float], float]:
    """Variances at (size, samples), and the largest z-score of a mean against the exact one."""
    variances, worst = [], 0.0
    for size, n in points:
        if n < needs(name):
            variances.append(float("nan"))
            continue
        g = gradients(ESTIMATES[name], size, n, repeats)
        decoder = Decoder(size)
        exact = (decoder.w.T @ decoder.x).double()  # of the bound, at mu = 0
        spread = (g.var(0) / repeats).sqrt()
        worst = max(worst, float(((g.mean(0) - exact).abs() / spread.clamp(min=1e-12)).max()))
        variances.append(float(g.var(0).mean()))
    return variances, worst


def draw(axes: Axes, x: list[int], curves: dict[str, list[float]], label: str) -> None:
    for (name, y), marker in zip(curves.items(), "os^vD", strict=True):
        axes.plot(x, y, marker=marker, markersize=4, label=name)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="variance of ∂/∂mu, nats²")
    axes.set_xticks(x, [str(v) for v in x])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=4000, help="estimates behind each point")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture")
    parser.add_argument("--results", type=Path, help="a file for the variances")
    args = parser.parse_args()
    torch.manual_seed(0)
    panels = {
        f"latent dimensions (L = {L})": (SIZES, [(size, L) for size in SIZES]),
        f"samples L ({SIZE} latent dimensions)": (SAMPLES, [(SIZE, n) for n in SAMPLES]),
    }
    figure, both = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    worst, found = 0.0, {}
    for axes, (label, (x, points)) in zip(both, panels.items(), strict=True):
        curves = {}
        print(f"{label}: {x}")
        for name in ESTIMATES:
            curves[name], off = curve(name, points, args.repeats)
            worst = max(worst, off)
            print(f"  {name:30}", " ".join(f"{v:9.3g}" for v in curves[name]))
        draw(axes, x, curves, label)
        found[label] = {"at": x, "variances": curves}
    both[0].legend(fontsize=8)
    both[1].set_ylabel("")
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "gradient-variance.png", dpi=110)
    if args.results:
        args.results.write_text(json.dumps(found, indent=1) + "\n")
    print(f"means off the exact gradient by at most {worst:.1f} standard errors")
    return 0 if worst < 6 else 1  # of some five thousand components


if __name__ == "__main__":
    sys.exit(main())
