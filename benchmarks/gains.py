"""What a user gains, by kind of model: whole training steps, from the committed results."""

from __future__ import annotations

from typing import Any

from .table import document, lines

# A kind of model; the file of results and the row in it by which it was measured.
KINDS = {
    "single cells, negative binomial, 20,000 genes": ("scvi-2-threads", "nb, 20000"),
    "single cells, negative binomial, 2,000 genes": ("scvi-2-threads", "nb, 2000"),
    "single cells, zero-inflated, 20,000 genes": ("scvi-2-threads", "zinb, 20000"),
    "single cells, zero-inflated, 2,000 genes": ("scvi-2-threads", "zinb, 2000"),
    "pixels as mixtures of logistics": (
        "images-avx512",
        "logistic mixture, a training step of 32",
    ),
    "pixels of 256 classes": ("images-avx512", "256 classes, a training step of 16"),
    "VampPrior of 500 pseudo-inputs": (
        "priors-avx512",
        "VampPrior of 500, a training step of 128 × 40",
    ),
    "β-TCVAE, batches of 256": ("priors-avx512", "β-TCVAE, a training step of 256 × 10"),
    "importance-weighted, 50 samples": (
        "models-avx512",
        "IWAE of 50 samples, a training step of 64",
    ),
    "hierarchical, learned priors": ("training-avx512", "hierarchical"),
    "texts of 10,000 words, recurrent": (
        "models-avx512",
        "texts of 30 of 10,000 words, a training step of 16",
    ),
    "autoencoder for latent diffusion, small": ("training-avx512", "convolutional"),
    "dense, 784 pixels": ("training-avx512", "dense"),
}


def named(row: dict[str, Any]) -> str:
    """A result's name, in whichever benchmark's words."""
    if "genes" in row:
        return f"{row['law']}, {row['genes']}" if row["what"] == "step" else "the loss"
    return str(row.get("model") or row["what"])


def found(file: str, name: str) -> dict[str, Any]:
    measured = document(file)
    rows = [*measured["results"], *measured.get("training", ())]
    (row,) = (r for r in rows if named(r) == name)
    times: dict[str, dict[str, float]] = row["times"]
    return {contender: t["p50"] for contender, t in times.items()}


def ratio(times: dict[str, float], baseline: str) -> str:
    if baseline not in times:
        return "–"
    return f"{times[baseline] / times['vae_ext']:.2f} ×"


def by_kind() -> str:
    """From the largest gain to the least, what gains nothing included."""
    measured = {kind: found(*where) for kind, where in KINDS.items()}
    order = sorted(measured, key=lambda k: -measured[k]["eager"] / measured[k]["vae_ext"])
    rows = []
    for kind in order:
        t = measured[kind]
        share = max(0.0, 1 - t["none"] / t["eager"])
        cells = [kind, f"{t['eager']:.1f}", f"{t['vae_ext']:.1f}", ratio(t, "eager")]
        rows.append([*cells, ratio(t, "compile"), f"{100 * share:.0f} %"])
    head = ["model", "usual, ms", "vae_ext, ms", "gain", "over compiled", "usual share of the loss"]
    return lines(head, rows, 1)
