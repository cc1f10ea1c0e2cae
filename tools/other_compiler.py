"""The package by other compilers, warnings being errors, and the kernels' tests on it at every
instruction set.

    python -m tools.other_compiler clang++-16 g++-11
    python -m tools.other_compiler clang++-16 --whole        the whole suite

On Debian: apt-get install clang-16 g++-11.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

from tools.builds import ROOT, build, environment_of, run_tests, tests

# What holds each loop to exact values or to another one.
TESTS = ("parity", "layouts", "gradients", "noise", "counts", "groups", "pixels", "mixtures")
LEVELS = "import vae_ext; print(vae_ext._C.compiler, *vae_ext.simd_levels())"


def check(compiler: str, whole: bool, arguments: list[str]) -> bool:
    if shutil.which(compiler) is None:
        print(f"{compiler} was not found")
        return False
    folder = ROOT / "build/compilers" / compiler
    print(f"building by {compiler} ...", flush=True)
    of_c = compiler.replace("clang++", "clang").replace("g++", "gcc")
    # Python's own flags are for the compiler that it was built by.
    given = {"CC": of_c, "CXX": compiler, "LDSHARED": f"{compiler} -shared", "CFLAGS": "-Werror"}
    if not build(folder, {**given, "VAE_EXT_NODE": "1" if whole else "0"}):
        return False
    environment = environment_of(folder)
    said = [sys.executable, "-c", LEVELS]
    if subprocess.run(said, cwd=folder, env=environment, check=False).returncode:
        return False
    if whole:
        return run_tests(folder, environment, str(ROOT / "tests"), *arguments)
    return run_tests(folder, environment, *tests(*TESTS), "--one-in", "4", *arguments)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("compilers", nargs="+", help="C++ compilers, as they are called")
    parser.add_argument("--whole", action="store_true", help="the whole suite")
    args, more = parser.parse_known_args()
    failed = [c for c in args.compilers if not check(c, args.whole, more)]
    print(f"{len(args.compilers) - len(failed)} compilers passed", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
