"""The whole proof on a machine with an NVIDIA GPU, its own Python and torch, and no network.

    python tools/gpu_check.py DIR          (make gpu-check OUT=DIR)

Builds the kernels for the cards that are there, runs the GPU tests, measures the accuracy, runs
compute-sanitizer over every op and the benchmark, and writes logs, results and plots into DIR.
Needs nvcc, a C++ compiler, torch 2.10 or newer, numpy, pybind11, ninja, setuptools, pytest,
hypothesis, mpmath, matplotlib and rich. Every step runs, whatever became of those before it, as
long as the minutes last; the exit status says whether all passed. The benchmark writes what it has
after every op.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable


# Seconds kept for the steps that come after: pictures of half a benchmark are worth having.
RESERVE = {"device": 0, "build": 0, "tests": 0, "memcheck": 0, "racecheck": 0}
RESERVE |= {"accuracy": 0, "benchmark": 20, "plot": 0}


@dataclass
class Step:
    name: str
    command: list[str]
    seconds: int  # after which it is stopped
    environment: dict[str, str] = field(default_factory=dict)


def sanitizer() -> str | None:
    found = shutil.which("compute-sanitizer")
    usual = "/usr/local/cuda/bin/compute-sanitizer"
    return found or (usual if os.access(usual, os.X_OK) else None)


def steps(out: Path) -> list[Step]:
    build = [PYTHON, "setup.py", "build_ext", "--inplace", "--build-temp", str(out / "objects")]
    tests = [PYTHON, "-m", "pytest", "-q", "tests/test_cuda.py", f"--junitxml={out}/tests.xml"]
    bench = [PYTHON, "-m", "benchmarks", "--devices", "cuda", "--rounds", "10", "--training"]
    bench += ["--sizes", "128x20", "256x4096", "4096x16384", "16384x16384"]
    bench += ["--dtypes", "float32", "bfloat16", "--out", str(out / "cuda")]
    plot = [PYTHON, "-m", "benchmarks.plot", str(out / "cuda.json"), "--out", str(out)]
    found = [
        Step("device", ["nvidia-smi"], 20),
        Step("build", build, 180, {"VAE_EXT_CUDA": "1"}),
        # Versions other than those that are pinned may warn of other things.
        Step("tests", tests, 240, {"VAE_EXT_REQUIRE_CUDA": "1", "PYTEST_ADDOPTS": "-W default"}),
    ]
    options = ["--device", "cuda", "--log2", "16", "--out", str(out / "accuracy")]
    found.append(Step("accuracy", [PYTHON, "-m", "tests.accuracy", *options], 90))
    checker = sanitizer()
    for tool in ("memcheck", "racecheck"):
        # Without it nothing is checked, which is a failure: the step fails by its command.
        command = [checker or "compute-sanitizer", f"--tool={tool}", "--error-exitcode=9"]
        command += [PYTHON, "-m", "tools.every_op", "--device", "cuda"]
        # Every tensor in an allocation of its own, so that its ends are seen.
        found.append(Step(tool, command, 90, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}))
    return [*found, Step("benchmark", bench, 260), Step("plot", plot, 60)]


def run(step: Step, out: Path, seconds_left: float) -> dict[str, object]:
    print(f"== {step.name}: {' '.join(step.command)}", flush=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    limit = max(1.0, min(step.seconds, seconds_left))
    with open(out / f"{step.name}.log", "w") as log:
        try:
            done = subprocess.run(
                step.command,
                cwd=ROOT,
                env={**environment, **step.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
            status = str(done.returncode)
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit:.0f} s"
        except OSError as error:
            status = str(error)
    seconds = time.monotonic() - start
    tail = (out / f"{step.name}.log").read_text(errors="replace").splitlines()
    print("\n".join(tail[-60:] if status != "0" else tail[-12:]), flush=True)
    print(f"== {step.name}: {'passed' if status == '0' else status}, {seconds:.0f} s", flush=True)
    return {"step": step.name, "status": status, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together")
    parser.add_argument("--only", nargs="+", help="these steps alone")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plan = [s for s in steps(out) if not args.only or s.name in args.only]
    end = time.monotonic() + 60 * args.minutes
    results = [run(step, out, end - time.monotonic() - RESERVE[step.name]) for step in plan]
    (out / "check.json").write_text(json.dumps(results, indent=1) + "\n")
    shutil.rmtree(out / "objects", ignore_errors=True)
    failed = [str(r["step"]) for r in results if r["status"] != "0"]
    print(f"gpu-check: {len(results) - len(failed)} passed, {len(failed)} failed", *failed)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
