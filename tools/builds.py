"""Builds of the package in folders of their own, for the tools that test one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path, environment: Mapping[str, str]) -> bool:
    """The package in folder/lib, by this Python's torch; prints what went wrong."""
    command = [sys.executable, "setup.py", "--quiet", "build"]
    command += ["--build-lib", str(folder / "lib"), "--build-temp", str(folder / "temp")]
    given = {**os.environ, "VAE_EXT_CUDA": "0", **environment}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def environment_of(folder: Path) -> dict[str, str]:
    """In which that is the package, and not the checkout's."""
    return {**os.environ, "PYTHONPATH": str(folder / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}


def run_tests(folder: Path, environment: Mapping[str, str], *arguments: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode == 0


def tests(*names: str) -> list[str]:
    return [str(ROOT / f"tests/test_{name}.py") for name in names]
