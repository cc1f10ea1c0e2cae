"""Ours beside the strongest that torch.compile can do, for docs/cpu.md.

    python -m benchmarks.strongest --simd avx2 --out out/cpu-avx2-strongest.json

Each cell is a program of its own: what torch 2.13 compiles with AVX-512 can free memory twice, and
abort. That cell is then missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import vae_ext

OPS = ("sample_kl", "kl", "kl_batchmean", "bernoulli", "gaussian")
SIZES = ("256x4096", "256x16384")


def measured(op: str, size: str, more: list[str]) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "cell"
        command = [sys.executable, "-m", "benchmarks", "--ops", op, "--sizes", size, *more]
        command += ["--baselines", "compile-max", "--out", str(out)]
        if subprocess.run(command, check=False).returncode:
            return None
        document: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--simd", choices=vae_ext.simd_levels(), default=vae_ext.simd_level())
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", default="9")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    more = ["--simd", args.simd, "--threads", args.threads, "--rounds", args.rounds]
    found = [measured(op, size, more) for op in OPS for size in SIZES]
    documents = [document for document in found if document is not None]
    results = [row for document in documents for row in document["results"]]
    whole = {"machine": documents[0]["machine"], "results": results}
    args.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
