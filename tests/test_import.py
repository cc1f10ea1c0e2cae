"""Importing the package: never a failure for want of the native library, and no surprises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import vae_ext
from tests.rows import public

ROOT = Path(__file__).resolve().parent.parent

WITHOUT_NATIVE = """
import sys, warnings
sys.modules["vae_ext._C"] = None  # as if the file were not there
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import vae_ext, torch
caught = [w for w in caught if issubclass(w.category, RuntimeWarning)]
assert len(caught) == 1, caught
message = str(caught[0].message)
assert "without its native library" in message and "_C" in message, message
assert "pip install" in message, message
assert caught[0].filename == "<string>", caught[0].filename  # the line that imports
"""


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
        check=False,
    )


def test_without_native_library_the_reference_serves() -> None:
    done = python(
        WITHOUT_NATIVE
        + """
assert vae_ext.simd_levels() == [] and vae_ext.simd_level() == ""
torch.manual_seed(0)
mu = torch.randn(4, 5, requires_grad=True)
logvar = torch.randn(4, 5, requires_grad=True)
z, kl = vae_ext.reparameterize_with_kl(mu, logvar)
loss = vae_ext.elbo_loss(z, torch.rand(4, 5), mu, logvar, beta=0.5)
loss.backward()
assert mu.grad is not None
print(repr(loss.item()), vae_ext.testing.philox_words(2, 7).tolist())
step = torch.compile(lambda m: vae_ext.reparameterize(m, m).sum(), backend="aot_eager")
step(mu).backward()
"""
    )
    assert done.returncode == 0, done.stderr
    loss, words = done.stdout.split(" ", 1)

    import torch

    torch.manual_seed(0)
    mu, logvar = torch.randn(4, 5), torch.randn(4, 5)
    z, _ = vae_ext.reparameterize_with_kl(mu, logvar)
    want = vae_ext.elbo_loss(z, torch.rand(4, 5), mu, logvar, beta=0.5)
    assert float(loss) == pytest.approx(want.item(), rel=1e-6)  # the same noise, too
    assert words.strip() == str(vae_ext.testing.philox_words(2, 7).tolist())


def test_native_library_is_the_one_under_test() -> None:
    from vae_ext import _C
    from vae_ext._native import library as native

    assert native.available
    assert _C.version == vae_ext.__version__
    assert _C.compiler
    assert vae_ext.simd_level() in vae_ext.simd_levels()
    assert "baseline" in vae_ext.simd_levels()


def test_simd_level_by_environment() -> None:
    code = "import vae_ext; print(vae_ext.simd_level())"
    for level in vae_ext.simd_levels():
        assert python(code, VAE_EXT_SIMD=level).stdout.strip() == level
    done = python(code + "; vae_ext.gaussian_kl", VAE_EXT_SIMD="sse9")
    assert "unknown SIMD level 'sse9', expected one of" in done.stderr


def test_imported_again_in_one_process() -> None:
    """As test tools and notebooks do: the ops are registered once."""
    done = python(
        """
import gc, importlib, sys, torch
for again in range(3):
    import vae_ext
    x = torch.randn(3, 4, requires_grad=True)
    vae_ext.elbo_loss(vae_ext.reparameterize(x, x), x.sigmoid(), x, x).backward()
    assert torch.ops.vae_ext.gaussian_kl(x, x, None, None, None, 0, None, 1, 1).requires_grad
    importlib.reload(vae_ext)
    for name in [n for n in sys.modules if n.partition(".")[0] == "vae_ext"]:
        del sys.modules[name]
    del vae_ext
    gc.collect()
"""
    )
    assert done.returncode == 0, done.stderr


def test_without_docstrings_and_assertions() -> None:
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "vae_ext", "--version"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"vae_ext {vae_ext.__version__}\n"), done.stderr


def test_names_shown() -> None:
    """What an editor offers is what is public, and what the page of functions lists."""
    shown = {n for n in dir(vae_ext) if not n.startswith("_")}
    functions = {*public(vae_ext.functional), "kl_multivariate_normal"}
    modules = {n for n in shown if isinstance(getattr(vae_ext, n), ModuleType)}
    others = {"Region", "set_simd_level", "simd_level", "simd_levels"}
    assert shown == functions | modules | others
    files = {p.stem for p in Path(vae_ext.__file__).parent.glob("*") if p.stem[:1] not in "_."}
    # One is loaded on demand; and py.typed is none.
    assert modules | {"distributed"} == files - {"py"}


def test_numpy_is_not_needed() -> None:
    code = """
import sys
sys.modules["numpy"] = None
import torch, vae_ext
x = torch.randn(4, 5, requires_grad=True)
loss = vae_ext.elbo_loss(vae_ext.reparameterize(x, x, n_samples=2), x.sigmoid().detach(), x, x)
loss.backward()
vae_ext.nn.ELBOLoss("gaussian", learned_variance=True)(x, x.detach(), x, x).backward()
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_metadata_needs_no_torch() -> None:
    """A resolver asks for name and version before it has installed anything."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import setup"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    # Without site-packages there is not even setuptools: the import of torch must not come first.
    assert "torch" not in done.stderr
    code = """
import sys, importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "torch" else real(name, *a)
sys.argv = ["setup.py", "--name", "--version"]
code = compile(open("setup.py").read(), "setup.py", "exec")
exec(code, {"__name__": "__main__", "__file__": "setup.py"})
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["vae_ext", vae_ext.__version__]


def test_public_names() -> None:
    for name in public(vae_ext):
        assert hasattr(vae_ext, name)
        if name != "__version__":
            assert getattr(vae_ext, name).__doc__


COLLECT = """
import sys, pytest
for name in sys.argv[1:]:
    sys.modules[name] = None  # as if it were not installed
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests"]))
"""
IMPORTED_AS = {"scikit-learn": "sklearn", "pytest-xdist": "xdist"}


def test_make_check_installs_what_the_tests_import() -> None:
    """Of what `make test` has, no test file imports more, unless it is left out by conftest.py."""
    everything = re.search(
        r"^test = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    recipe = re.search(r"check\.stamp:.*\n\t\$\(PIP\) (.*)", (ROOT / "Makefile").read_text())
    assert everything is not None
    assert recipe is not None
    missing = set(json.loads(everything[1])) - {"numpy", *recipe[1].split()}
    assert len(missing) > 5
    names = sorted(IMPORTED_AS.get(name, name) for name in missing)
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *names],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "VAE_EXT_REQUIRE_TOOLS": "0"},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
