"""Writes compile_commands.json, by which clangd and other editors understand csrc: the C++ files as
they are built, the CUDA files as they are built for the host, and with each kind the headers that
belong to it.

    python tools/compile_commands.py [compile_commands.json]
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
sys.path.insert(0, str(CSRC))

import compile_cuda  # noqa: E402


def of_native() -> list[dict[str, str]]:
    """What ninja was last told for the native library."""
    from ninja import BIN_DIR

    (folder,) = [p.parent for p in (ROOT / "build").glob("temp.*/build.ninja")]
    command = [str(Path(BIN_DIR) / "ninja"), "-C", str(folder), "-t", "compdb"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[dict[str, str]] = json.loads(done.stdout[done.stdout.index("[") :])
    return [entry for entry in found if entry["file"].endswith(".cpp")]


def entry(command: str, file: Path) -> dict[str, str]:
    return {"directory": str(ROOT), "command": command, "file": str(file)}


def of_cuda() -> list[dict[str, str]]:
    flags = compile_cuda.host_flags()
    return [
        entry(shlex.join(["c++", *flags, *source.flags, "-c", str(source.path)]), source.path)
        for source in compile_cuda.host_sources()
    ]


def main() -> None:
    native, cuda = of_native(), of_cuda()
    # Parts of the tile kernels are read as the file that includes them.
    kernels = next(e for e in native if e["file"].endswith("kernels_avx2.cpp"))
    parts = [entry(kernels["command"], p) for p in sorted(CSRC.glob("cpu/*.inl"))]
    parts += [entry(native[0]["command"], p) for p in sorted(CSRC.glob("ops/*.inl"))]
    headers = [entry(cuda[0]["command"], p) for p in sorted(CSRC.glob("cuda/*.cuh"))]
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "compile_commands.json")
    target.write_text(json.dumps([*native, *cuda, *parts, *headers], indent=1) + "\n")
    print(f"{target}: {len(native)} C++ files, {len(cuda)} CUDA files and what they include")


if __name__ == "__main__":
    main()
