"""Train a variational autoencoder on handwritten digits, twice: with vae_ext's loss and with the
same loss in plain PyTorch, from the same weights and the same noise. The curves agree.

    python examples/train_vae.py --epochs 50 --latent 16
    python examples/train_vae.py --data folder-with-mnist-idx-files --likelihood gaussian
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from digits import Digits, load_idx, load_sklearn
from losses import Loss, loss_times, ours, plain
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

import vae_ext

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
# How far two runs may drift apart: rounding differs, and training amplifies it.
DRIFT = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 1e-1}
BATCH = 128
STYLE: dict[str, Any] = {"title_justify": "left", "box": SIMPLE}


class VAE(nn.Module):
    def __init__(self, pixels: int, latent: int, hidden: int = 256) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels)
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, dim=1)  # views of one tensor, read in place
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        recon: Tensor = self.decoder(z)
        return recon


def train(
    name: str, loss: Loss, data: Digits, args: argparse.Namespace, console: Console
) -> tuple[VAE, list[dict[str, float]]]:
    torch.manual_seed(args.seed)
    model = VAE(data.train.shape[1], args.latent).to(args.device, args.dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = data.train.to(args.device, args.dtype)
    test = data.test.to(args.device, args.dtype)
    history: list[dict[str, float]] = []
    step = 0
    columns = (
        TextColumn("{task.description:14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs, ELBO {task.fields[elbo]:8.2f} nats"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=args.epochs, elbo=float("nan"))
        for _ in range(args.epochs):
            order = torch.randperm(len(images))
            totals = {"reconstruction": 0.0, "kl": 0.0}
            for rows in order.split(BATCH):
                x = images[rows.to(images.device)]
                mu, logvar = model.encode(x)
                parts = loss(model.decode, x, mu, logvar, args.likelihood, args.seed, step)
                optimizer.zero_grad()
                (parts.kl - parts.reconstruction).backward()
                optimizer.step()
                step += 1
                share = len(rows) / len(images)
                totals["reconstruction"] += share * parts.reconstruction.item()
                totals["kl"] += share * parts.kl.item()
            with torch.no_grad():
                mu, logvar = model.encode(test)
                parts = loss(model.decode, test, mu, logvar, args.likelihood, args.seed + 1, 0)
            elbo = totals["reconstruction"] - totals["kl"]
            held_out = (parts.reconstruction - parts.kl).item()
            history.append({"elbo": elbo, "held_out": held_out, **totals})
            progress.update(task, advance=1, elbo=elbo)
    return model, history


def show_agreement(
    histories: dict[str, list[dict[str, float]]], epochs: int, console: Console
) -> float:
    """Prints some epochs of both runs; returns the largest relative difference of all epochs."""
    table = Table(title="nats per image: vae_ext | plain PyTorch", **STYLE)
    for column in ("epoch", "ELBO", "reconstruction", "KL", "held-out ELBO"):
        table.add_column(column, justify="right")
    worst = 0.0
    a, b = histories["vae_ext"], histories["plain PyTorch"]
    shown = {0, epochs - 1, *range(-1, epochs, max(1, epochs // 8))}
    for epoch, (ours_epoch, plain_epoch) in enumerate(zip(a, b, strict=True)):
        for key, value in ours_epoch.items():
            worst = max(worst, abs(value - plain_epoch[key]) / max(abs(plain_epoch[key]), 1e-3))
        if epoch in shown:
            cells = [
                f"{ours_epoch[key]:.2f} | {plain_epoch[key]:.2f}"
                for key in ("elbo", "reconstruction", "kl", "held_out")
            ]
            table.add_row(str(epoch + 1), *cells)
    console.print(table)
    return worst


def show_times(data: Digits, args: argparse.Namespace, console: Console) -> None:
    title = "the loss of a step, forward and backward, ms (medians of interleaved runs)"
    table = Table(title=title, **STYLE)
    for column in ("latent", "image", "vae_ext", "plain", "plain / vae_ext"):
        table.add_column(column, justify="right")
    for latent, pixels in ((args.latent, data.train.shape[1]), (4096, 3 * 64 * 64)):
        t = loss_times(BATCH, latent, pixels, args.likelihood, args.dtype, args.device)
        ratio = t["plain"] / t["vae_ext"]
        shapes = (f"{BATCH} × {latent}", f"{BATCH} × {pixels}")
        table.add_row(*shapes, f"{t['vae_ext']:.3f}", f"{t['plain']:.3f}", f"{ratio:.1f}")
    console.print(table)


def save_pictures(
    model: VAE, data: Digits, histories: dict[str, list[dict[str, float]]], args: argparse.Namespace
) -> None:
    from pictures import save_curves, save_images, save_latent, save_reconstructions

    def image(recon: Tensor) -> Tensor:
        return torch.sigmoid(recon) if args.likelihood == "bernoulli" else recon

    args.out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        mu, _ = model.encode(data.test.to(args.device, args.dtype))
        decoded = image(model.decode(mu[:36])).cpu()
        prior = vae_ext.standard_normal(
            96, args.latent, seed=args.seed, dtype=args.dtype, device=args.device
        )
        samples = image(model.decode(prior)).cpu()
    save_curves(args.out / "curves.png", histories)
    save_reconstructions(args.out / "reconstructions.png", data.test[:36], decoded, data.side)
    title = "decoded samples of the prior"
    save_images(args.out / "samples.png", samples, 12, data.side, title)
    save_latent(args.out / "latent.png", mu, data.test_labels)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def device(text: str) -> torch.device:
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"no such device here: {reason}") from None
    return torch.device(text)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=positive, default=150)
    parser.add_argument("--latent", type=positive, default=8, help="dimensions of z")
    parser.add_argument("--likelihood", choices=("bernoulli", "gaussian"), default="bernoulli")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--device", type=device, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of MNIST IDX files; default: the digits "
                        "that ship inside scikit-learn")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    args = parser.parse_args(argv)
    args.dtype = DTYPES[args.dtype]
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    console = Console()
    try:
        data = load_sklearn() if args.data is None else load_idx(args.data)
    except (OSError, ValueError) as error:
        console.print(f"cannot read the data: {error}", style="red")
        return 2
    level = vae_ext.simd_level() or "none: the PyTorch reference serves"
    console.print(
        f"{len(data.train)} digits of {data.side} × {data.side}, {len(data.test)} held out; "
        f"vae_ext {vae_ext.__version__}, native code: {level}; torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    histories = {}
    model, histories["vae_ext"] = train("vae_ext", ours, data, args, console)
    _, histories["plain PyTorch"] = train("plain PyTorch", plain, data, args, console)
    worst = show_agreement(histories, args.epochs, console)
    agree = worst <= DRIFT[args.dtype]
    verdict = "they agree" if agree else "they DISAGREE"
    console.print(f"largest relative difference of any epoch: {worst:.1e}: {verdict}")
    show_times(data, args, console)
    save_pictures(model, data, histories, args)
    console.print(f"pictures: {', '.join(sorted(str(p) for p in args.out.glob('*.png')))}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
