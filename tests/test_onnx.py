"""Programs for onnxruntime, which has none of our ops: torch's own formulas, and their numbers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vae_ext
from tests.rows import ROWS, Row
from tests.test_modes import SAMPLING
from tests.test_programs import Module

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# What ONNX has no operator for; plain PyTorch formulas end in the same error.
REFUSED = {"kl_multivariate_normal": "linalg_solve_triangular"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch's exporter warns of itself, and logs what it could not find."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


class Runtime:
    """A module in onnxruntime."""

    def __init__(self, module: nn.Module, args: tuple[Tensor, ...], **options: object) -> None:
        program = torch.onnx.export(module.eval(), args, dynamo=True, verbose=False, **options)
        assert program is not None
        self.session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        self.names = [i.name for i in self.session.get_inputs()]

    def __call__(self, *args: Tensor) -> Tensor:
        feed = {n: t.numpy() for n, t in zip(self.names, args, strict=True)}
        return torch.from_numpy(np.asarray(self.session.run(None, feed)[0]))


# With a seed the words of the generator are in the program, which takes long to make.
SEEDED = {"reparameterize", "GaussianLatent", "iwae, sticking-the-landing"}


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r not in SAMPLING or r.name in SEEDED], ids=repr
)
def test_numbers_are_those_of_eager(row: Row) -> None:
    leaves = tuple(t.detach() for t in row.leaves(4, torch.float32))
    module = Module(row).float()
    if row.name in REFUSED:
        with pytest.raises(torch.onnx.errors.OnnxExporterError, match="Failed to conv") as caught:
            Runtime(module, leaves)
        assert REFUSED[row.name] in str(caught.value.__cause__)
        return
    got, want = Runtime(module, leaves)(*leaves), module(*leaves)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
def test_each_run_draws_anew(row: Row) -> None:
    leaves = tuple(t.detach() for t in row.leaves(4, torch.float32))
    call = Runtime(Module(row, None).float(), leaves)
    first = call(*leaves)
    assert first.shape == row(*leaves).shape
    assert bool(first.isfinite().all())
    assert not torch.equal(call(*leaves), first)


def test_samples_have_the_right_mean_and_variance() -> None:
    """Of an encoder with a sampling layer, at another batch size than the exported."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 8)

        def forward(self, x: Tensor) -> Tensor:
            mu, logvar = self.layer(x).chunk(2, 1)
            return vae_ext.reparameterize(mu, logvar)

    encoder, x = Encoder(), torch.randn(3, 5)
    batch = torch.export.Dim("batch")
    call = Runtime(encoder, (torch.randn(7, 5),), dynamic_shapes={"x": {0: batch}})
    mu, logvar = encoder.layer(x).detach().chunk(2, 1)
    n = 4000
    eps = torch.stack([(call(x) - mu) * torch.exp(-0.5 * logvar) for _ in range(n)])
    assert eps.shape == (n, 3, 4)
    # Five standard errors.
    assert float(eps.mean(0).abs().max()) < 5 / n**0.5
    assert float((eps.square().mean(0) - 1).abs().max()) < 5 * (2 / n) ** 0.5
