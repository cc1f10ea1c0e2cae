"""The CUDA kernels where there is no GPU: compiled, linked, registered, and run on the host."""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import vae_ext
from tests import sharded_checks
from tests.devices import KERNELS
from tests.processes import spawn

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/cuda"


def load_tools() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_cuda", ROOT / "csrc/compile_cuda.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tools = load_tools()


@pytest.fixture(scope="module")
def library() -> Path:
    """Compiled as `make test` has done it, for sm_80, sm_90 and PTX: then this takes a second."""
    if tools.find_nvcc() is None:
        pytest.skip("no nvcc: `make cuda` installs it")
    done = subprocess.run(
        [sys.executable, "csrc/compile_cuda.py", "--out", str(BUILD)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "_cuda.so"


def test_no_spills_and_no_stack(library: Path) -> None:
    report = tools.report(sorted(BUILD.glob("*.o")))
    assert report["kernels"] > 100
    assert report["kernels that spill"] == 0
    assert report["kernels with a stack frame"] == 0


def test_needs_only_stable_symbols(library: Path) -> None:
    """LibTorch's stable C interface, the CUDA runtime and the C and C++ libraries: nothing that
    changes from one torch to the next."""
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    names = [line.split()[-1] for line in symbols.splitlines()]
    from_torch = {n for n in names if "@" not in n and not n.startswith(("_ITM_", "__gmon"))}
    assert from_torch
    assert all(re.match(r"(aoti_)?torch_", n) for n in from_torch), from_torch
    # Every one but the stream is in this torch, GPU or not.
    here = subprocess.run(
        ["nm", "-D", "--defined-only", Path(torch.__file__).parent / "lib/libtorch_cpu.so"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    defined = {line.split()[-1].split("@")[0] for line in here.splitlines()}
    if torch.version.cuda is None:
        assert from_torch - defined == {"aoti_torch_get_current_cuda_stream"}


REGISTERED = """
import ctypes, sys
import torch, vae_ext
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
torch.ops.load_library(sys.argv[2])
names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("vae_ext::")]
has = torch._C._dispatch_has_kernel_for_dispatch_key
missing = [n for n in names if not has(n, "CUDA") and not has(n, "CompositeExplicitAutograd")]
assert not missing, missing
print(len(names), "ops")
"""


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has what is faked here")
def test_every_op_has_a_cuda_kernel(library: Path, tmp_path: Path) -> None:
    """The library that a GPU machine loads, loaded here with a stand-in for torch's stream."""
    stub = tmp_path / "stream.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-xc", "-", "-o", str(stub)],
        input="int aoti_torch_get_current_cuda_stream(int i, void** s) { return 1; }",
        text=True,
        check=True,
    )
    nvcc = tools.find_nvcc()
    home = nvcc.resolve().parent.parent
    paths = ":".join(str(home / name) for name in ("lib64", "lib"))
    done = subprocess.run(
        [sys.executable, "-c", REGISTERED, str(stub), str(library)],
        cwd=ROOT,
        env={"LD_LIBRARY_PATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ops" in done.stdout


SLOWEST = ("accuracy", "parity", "gradients", "distributions", "properties", "weights")


@pytest.fixture(scope="module")
def on_host() -> Path:
    out = ROOT / "build/cuda-on-host"
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as lock:  # other workers ask for it, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        path: Path = tools.compile_on_host(out)
    return path


@pytest.fixture(scope="module")
def parts(on_host: Path) -> Iterator[ctypes.CDLL]:
    yield ctypes.CDLL(str(tools.parts_of(on_host)))
    # The tests after these are the CPU kernels'.
    assert "csrc/cuda" not in torch._C._dispatch_dump("vae_ext::gaussian_kl")


@pytest.mark.parametrize("tests", ["tests/accuracy", *(f"tests/test_{n}.py" for n in KERNELS)])
def test_the_kernels_on_the_host(on_host: Path, tests: str) -> None:
    """The tests of the CPU kernels pass on the .cu files, launch geometry, barriers and all. Of the
    many cases of the slowest one in three: `make cuda-emulate ARGS=--full` has all of them."""
    share = "3" if any(name in tests for name in SLOWEST) else "1"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--cuda-on-host", str(on_host), tests),
            *("--one-in", share),
            # The extreme words are the formulas' matter, which the host tests anyway.
            *("--deselect", "tests/test_noise.py::test_extreme_words"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    launches = re.search(r"(\d+) launches of CUDA kernels on the host", done.stdout)
    assert launches is not None
    assert int(launches[1]) > 20  # it is those kernels that ran


def test_shards_on_the_host(on_host: Path) -> None:
    """Likewise on processes, which are others than this one."""
    spawn(sharded_checks.run_kernels, 2, str(on_host))


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**62))
@example(2**63 - 1, 1)
@example(2**63 - 1, 3)
@example(2**62, 2**62)
@example(2**62 - 1, 2**62)
@example(7, 2**61 + 1)
def test_division_by_multiplication(parts: ctypes.CDLL, n: int, size: int) -> None:
    quotient = parts.quotient
    quotient.restype = ctypes.c_int64
    assert quotient(ctypes.c_int64(n), ctypes.c_int64(size)) == n // size


@given(st.lists(st.integers(2, 3000), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_strided_offsets(parts: ctypes.CDLL, sizes: list[int], random: Random) -> None:
    """Of tensors with more than 2^31 elements, too."""
    strides = [random.choice([0, 1, 2, 4096, 2**33 + 1]) for _ in sizes]
    i = random.randrange(math.prod(sizes))
    index = np.unravel_index(i, sizes)
    offset = parts.offset
    offset.restype = ctypes.c_int64
    array = ctypes.c_int64 * len(sizes)
    got = offset(ctypes.c_int64(i), len(sizes), array(*sizes), array(*strides))
    assert got == sum(int(k) * stride for k, stride in zip(index, strides, strict=True))


@given(
    st.integers(1, 10**6),
    st.integers(0, 10**9),
    st.sampled_from([1, 4, 8]),
    st.sampled_from([1, 2, 8]),
    st.booleans(),
)
@example(1, 10, 1, 1, True)
@example(10**5, 20, 4, 8, True)
@example(1, 10**7, 8, 1, True)
@example(10**5, 10**7, 8, 1, True)
@example(65536, 784, 8, 1, True)
@example(3, 2048, 4, 1, True)
@example(3, 2052, 4, 1, True)
def test_sums_fill_the_chip(
    parts: ctypes.CDLL, events: int, size: int, width: int, sums: int, shared: bool
) -> None:
    """Every element falls to one block, none has too much to do, and they fit one grid."""
    out = (ctypes.c_int64 * 4)()
    sum_plan = parts.sum_plan
    sum_plan(ctypes.c_int64(events), ctypes.c_int64(size), width, sums, shared, out)
    blocks, events_per_block, chunks, chunk_size = out
    if events_per_block:
        assert shared
        assert size % width == 0
        assert events_per_block * (size // width) * sums <= 4096  # the tile in shared memory
        assert (blocks - 1) * events_per_block < events <= blocks * events_per_block
        assert blocks >= min(events, 528)
    else:
        assert blocks == events * chunks
        assert chunks * chunk_size >= size
        assert (chunks - 1) * chunk_size < max(size, 1)
        assert chunk_size % (256 * width) == 0
        assert chunk_size <= 8 * 256 * width
        assert blocks >= min(events * size // (256 * width), 1024)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.0", [("90", False)]),
        ("8.0;9.0+PTX", [("80", False), ("90", True)]),
        ("8.6 9.0a", [("86", False), ("90a", False)]),
        ("10.0,12.0+PTX", [("100", False), ("120", True)]),
    ],
)
def test_architectures(text: str, expected: list[tuple[str, bool]]) -> None:
    assert tools.parse_archs(text) == expected


def test_unknown_architecture() -> None:
    with pytest.raises(tools.CompileError, match="the architecture was 'Hopper', expected one"):
        tools.parse_archs("Hopper")


def test_without_cuda_kernels_there_is_a_cause() -> None:
    from vae_ext._native import library as native

    if torch.version.cuda is None:
        assert native.cuda_unavailable_reason == "this torch is built without CUDA"
    assert native.cuda_available == (native.cuda_unavailable_reason == "")
    with pytest.warns(RuntimeWarning, match="has no CUDA kernels here") as caught:
        native.warn_of_missing_cuda.__wrapped__()
    assert "VAE_EXT_CUDA=1 pip install" in str(caught[0].message)
    assert vae_ext.__version__
