"""The dispatcher's side of the native ops: a guard at the autograd key, and the way past it.

Imported only where the native library is. `torch.ops.vae_ext` is not the public interface: its ops
compute, and the autograd Functions differentiate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import fakes as _fakes  # noqa: F401  (registers them)

DIFFERENTIABLE = (
    "reparameterize",
    "reparameterize_with_kl",
    "latent",
    "sample_with_log_densities",
    "gaussian_kl",
    "bernoulli_log_likelihood",
    "gaussian_log_likelihood",
)
NAMES = [n for name in DIFFERENTIABLE for n in (name, f"{name}_backward")]
NAMES += ["reparameterize_dnoise", "scale_gradient_"]
NAMES += [f"{d}_log_likelihood_with_gradients" for d in ("bernoulli", "gaussian")]

# The public functions of ops that are not named after one.
PUBLIC = {
    "latent": "distributions.DiagonalGaussian",
    "sample_with_log_densities": "estimators.draw",
    "scale_gradient_": "bernoulli_log_likelihood",
}

_library = torch.library.Library("vae_ext", "IMPL")


def _refuse_gradient(name: str) -> None:
    """Without this a raw op called on tensors that require gradients would lose them."""
    op = getattr(torch.ops.vae_ext, name).default

    def kernel(keyset: torch._C.DispatchKeySet, *args: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            public = name
            for suffix in ("_backward", "_dnoise", "_with_gradients"):
                public = public.removesuffix(suffix)
            public = PUBLIC.get(public, public)
            raise RuntimeError(
                f"torch.ops.vae_ext.{name} has no gradient of its own: call vae_ext.{public}, "
                "which does, or detach its inputs"
            )
        return op.redispatch(keyset & torch._C._after_autograd_keyset, *args)

    _library.impl(name, kernel, "Autograd", with_keyset=True)


for _name in NAMES:
    _refuse_gradient(_name)


def call(op: Any, *args: Any) -> Any:
    """An op from inside an autograd Function: straight to its kernel."""
    if torch.compiler.is_compiling():
        return op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)
