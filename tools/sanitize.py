"""Build the native library under the address and undefined-behaviour sanitizers, see that they
report a planted error, and run the tests that vary shapes, strides and values most.

    python -m tools.sanitize [pytest arguments]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.builds import ROOT, build, environment_of, run_tests, tests

BUILD = ROOT / "build/sanitize"
TESTS = [
    "properties",
    "edges",
    "layouts",
    "memory",
    "threads",
    "faults",
    "noise",
    "groups",
    "pixels",
    "mixtures",
]


def preloads() -> str:
    """The sanitizers' libraries and the C++ library whose functions they intercept: all must be
    there before Python is."""
    compiler = os.environ.get("CXX", "g++").split()
    found = []
    for name in ("libasan.so", "libubsan.so", "libstdc++.so"):
        command = [*compiler, f"-print-file-name={name}"]
        path = Path(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        )
        if not path.is_absolute():
            sys.exit(f"{name} was not found: install the sanitizers of {compiler[0]}")
        found.append(str(path.resolve()))
    return ":".join(found)


def environment() -> dict[str, str]:
    return {
        **environment_of(BUILD),
        "LD_PRELOAD": preloads(),
        # Python and torch keep memory to the end, which is no leak of ours.
        # What is allocated is full of 3.4e38, as tests/test_faults.py has it from glibc.
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:malloc_fill_byte=127:"
        "max_malloc_fill_size=4194304",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }


def main() -> int:
    print("building with -fsanitize=address,undefined ...", flush=True)
    if not build(BUILD, {"VAE_EXT_SANITIZE": "1"}):
        return 1

    # Not from the checkout, whose library is not the sanitized one.
    env = environment()
    planted = "import vae_ext._C as c; assert 'sanitize' in c.__file__; c.read_past_the_end(300)"
    done = subprocess.run(
        [sys.executable, "-c", "import torch; " + planted],
        cwd=BUILD,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 or "heap-buffer-overflow" not in done.stderr:
        print(done.stdout + done.stderr)
        print("the sanitizer did not report the planted error")
        return 1
    print("the planted read past the end is reported; now the tests", flush=True)
    arguments = sys.argv[1:] or ["--hypothesis-profile=thorough"]
    return 0 if run_tests(BUILD, env, "-x", "-m", "not big", *tests(*TESTS), *arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
