"""Options and fixtures shared by all tests.

pytest --device cuda            the same tests on CUDA tensors
pytest --without-nodes          with autograd's Functions in Python
pytest --cuda-on-host LIBRARY   the same tests on the CUDA kernels, compiled for the host
pytest --cuda-emulated FOLDER   the same tests on the machine code of the CUDA kernels, emulated
pytest --one-in N               one of N tests of each function, the same ones each time
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

import vae_ext
from tests import devices
from vae_ext import _ops

EMULATOR = pytest.StashKey["Emulator"]()

# The same examples every time; thousands of new ones with --hypothesis-profile=thorough.
COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("quick", max_examples=40, derandomize=True, **COMMON)
settings.register_profile("thorough", max_examples=600, **COMMON)
settings.load_profile("quick")

# What needs a GPU skips without one, and fails under VAE_EXT_REQUIRE_CUDA=1.
HAS_CUDA = torch.cuda.is_available()
REQUIRED = os.environ.get("VAE_EXT_REQUIRE_CUDA") == "1"


# Files that import packages which `make check` does not install. `make test` does, and says so by
# VAE_EXT_REQUIRE_TOOLS=1: then a missing one is an error.
NEEDS = {
    "test_diffusers.py": "diffusers",
    "test_documentation.py": "diffusers",
    "test_noise_statistics.py": "scipy",
    "test_onnx.py": "onnxruntime",
}
# Of packages that `make test-integrations` installs, in an environment of its own.
ELSEWHERE = {"test_scvi.py": "scvi"}
LEFT_OUT: dict[str, str] = {}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    package = {**NEEDS, **ELSEWHERE}.get(collection_path.name)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    if os.environ.get("VAE_EXT_REQUIRE_TOOLS") == "1" and collection_path.name in NEEDS:
        pytest.exit(f"{package} is not installed, which {collection_path.name} needs", 1)
    LEFT_OUT[collection_path.name] = package
    return True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"))
    parser.addoption("--without-nodes", action="store_true")
    parser.addoption("--cuda-on-host", metavar="LIBRARY")
    parser.addoption("--cuda-emulated", metavar="FOLDER")
    parser.addoption("--one-in", type=int, default=1, metavar="N", help="so many of the tests")
    parser.addoption("--architecture", type=int, default=90, help="of the emulated machine code")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    every = config.getoption("--one-in")
    seen: Counter[str] = Counter()
    kept, others = [], []
    for item in items:
        name = item.nodeid.partition("[")[0]
        # The first of each, and then by turns.
        (others if seen[name] % every else kept).append(item)
        seen[name] += 1
    if others:
        config.hook.pytest_deselected(items=others)
    items[:] = kept


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cuda: needs an NVIDIA GPU")
    config.addinivalue_line("markers", "big: more than 2^31 elements, too many for the sanitizers")
    # Before the tests are imported: some have tensors at module level.
    if config.getoption("--device") != "cpu":
        torch.set_default_device(config.getoption("--device"))
    if config.getoption("--without-nodes"):
        _ops.by_node = None
    library = config.getoption("--cuda-on-host")
    if library:
        torch.ops.load_library(library)  # its kernels replace those of the CPU key
    folder = config.getoption("--cuda-emulated")
    if folder:
        from tools.emulator.build import Emulator

        architecture = config.getoption("--architecture")
        config.stash[EMULATOR] = Emulator(Path(folder), architecture)
    devices.machine_code = bool(folder) or config.getoption("--device") == "cuda"
    devices.cuda_kernels = devices.machine_code or kernels_are_cuda(config)


def kernels_are_cuda(config: pytest.Config) -> bool:
    """Whether the CPU's tensors are served by the CUDA kernels, in one of two ways."""
    return bool(config.getoption("--cuda-on-host") or config.getoption("--cuda-emulated"))


@pytest.fixture(autouse=True)
def no_problems_of_the_emulator(request: pytest.FixtureRequest) -> Iterator[None]:
    emulator = request.config.stash.get(EMULATOR, None)
    before = emulator.problems() if emulator else 0
    yield
    if emulator:
        assert emulator.problems() == before, "the emulator says what went wrong, on stderr"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, package in LEFT_OUT.items():
        terminalreporter.write_line(f"{name} is left out: {package} is not installed")
    if config.getoption("--without-nodes"):
        terminalreporter.write_line("without nodes")
    library = config.getoption("--cuda-on-host")
    if library:
        launches = ctypes.CDLL(library).launches()
        terminalreporter.write_line(f"{launches} launches of CUDA kernels on the host")
    emulator = config.stash.get(EMULATOR, None)
    if emulator:
        terminalreporter.write_line(f"{emulator.launches()} launches of emulated machine code")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not HAS_CUDA:
        if REQUIRED:
            pytest.fail("VAE_EXT_REQUIRE_CUDA=1, but torch finds no GPU")
        pytest.skip("torch finds no GPU (VAE_EXT_REQUIRE_CUDA=1 makes this a failure)")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=vae_ext.simd_levels())
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that was compiled in and that this processor runs."""
    before = vae_ext.simd_level()
    on_cpu = request.config.getoption("--device") == "cpu"
    if not (on_cpu and not kernels_are_cuda(request.config)) and request.param != before:
        pytest.skip("the instruction set is the CPU kernels'")
    vae_ext.set_simd_level(request.param)
    yield request.param
    vae_ext.set_simd_level(before)
