"""Does the suite notice? Break the sources in one place at a time, build, and run the tests: each
mutant must fail one.

    python -m tools.mutants [--quick] [--only WORD]

Works on a copy in build/mutants. --quick only checks that every mutation still fits the sources.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from tools.builds import ROOT
from tools.mutants import MUTANTS
from tools.mutants.mutant import Mutant

COPY = ROOT / "build/mutants"


def copy_sources() -> None:
    COPY.mkdir(parents=True, exist_ok=True)
    for name in ("csrc", "vae_ext", "tests", "tools"):
        shutil.copytree(
            ROOT / name,
            COPY / name,
            dirs_exist_ok=True,
            copy_function=shutil.copy,  # as new: what a mutant left behind is built again
            ignore=shutil.ignore_patterns("*.so", "__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, COPY / name)


def optimize(level: str) -> None:
    """For the builds that follow. One after a change compiles everything."""
    setup = (ROOT / "setup.py").read_text()
    assert setup.count('"-O3"') == 1
    (COPY / "setup.py").write_text(setup.replace('"-O3"', f'"{level}"'))


def build() -> subprocess.CompletedProcess[str]:
    """In place; ninja compiles what depends on the file that changed."""
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=COPY,
        env={**os.environ, "VAE_EXT_CUDA": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def run_tests(*arguments: str) -> subprocess.CompletedProcess[str]:
    # With -c the working directory, which is the copy, comes before what is installed.
    code = (
        "import sys, pytest, vae_ext; assert 'mutants' in vae_ext.__file__, vae_ext.__file__; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = ("-q", "-x", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-c", code, *options, *arguments],
        cwd=COPY,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        check=False,
    )


def first_failure(output: str) -> str:
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split("::", 1)[-1].split(" - ")[0] if failed else ""


def killed_by(mutant: Mutant) -> str:
    """The test that failed, or "" if none did. The copy is as it was, afterwards."""
    optimize("-O3" if mutant.vectors else "-O1")
    path = COPY / mutant.file
    source = path.read_text()
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        done = build()  # after a mutant of the native sources, a Python one needs it too
        if done.returncode:
            print(done.stdout[-2000:] + done.stderr[-2000:])
            sys.exit(f"the mutant does not compile: {mutant.name}")
        done = run_tests(*mutant.paths())
        killer = first_failure(done.stdout) or ("a crash" if done.returncode < 0 else "")
        if done.returncode and not killer:
            sys.exit(f"pytest did not run: {mutant.name}\n{done.stdout}{done.stderr}")
        return killer
    finally:
        path.write_text(source)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="mutants whose names have this word")
    args = parser.parse_args()
    stale = [m.name for m in MUTANTS if not m.fits()]
    if stale:
        print("these no longer fit the sources:", *stale, sep="\n  ")
        return 1
    chosen = [m for m in MUTANTS if args.only in m.name]
    if args.quick:
        print(f"{len(MUTANTS)} mutants fit the sources")
        return 0

    copy_sources()
    optimize("-O1")  # half the time of a build
    print("building the copy, and running all their tests unbroken ...", flush=True)
    done = build()
    if done.returncode:
        print(done.stdout + done.stderr)
        return 1
    paths = dict.fromkeys(path for m in chosen for path in m.paths())
    healthy = run_tests("-n", "auto", *paths)
    if healthy.returncode:
        print(healthy.stdout[-3000:])
        print("the tests fail without a mutant")
        return 1
    table = Table("mutant", "file", "killed by", "seconds")
    survivors = []
    for mutant in sorted(chosen, key=lambda m: m.vectors):  # two builds of everything, not more
        begin = time.monotonic()
        killer = killed_by(mutant)
        if not killer:
            survivors.append(mutant.name)
        print(f"{mutant.name}: {killer or 'SURVIVED'}", flush=True)
        table.add_row(
            mutant.name, mutant.file, killer or "SURVIVED", f"{time.monotonic() - begin:.0f}"
        )
    Console(width=150).print(table)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
