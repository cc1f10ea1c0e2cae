"""The whole proof on a machine with an NVIDIA GPU, its own Python and torch, and no network.

    python tools/gpu_check.py DIR          (make gpu-check OUT=DIR)

Builds the kernels for the cards that are there; then, side by side, runs the GPU tests, measures
the accuracy, and runs compute-sanitizer over every op; then, one after the other, the benchmark
and the profiler's counters. Logs, results and plots go into DIR. Needs nvcc, a C++ compiler, torch
2.10 or newer, numpy, pybind11, ninja, setuptools, pytest, hypothesis, mpmath, matplotlib and rich.
Every step runs, whatever became of those before it, as long as the minutes last; the exit status
says whether all passed. The benchmark writes what it has after every op.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable


@dataclass
class Step:
    name: str
    command: list[str]
    seconds: int  # after which it is stopped
    environment: dict[str, str] = field(default_factory=dict)


def sanitizer() -> str:
    """Without it nothing is checked, which is a failure: the step fails by its command."""
    return shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"


def tests(out: Path) -> Step:
    """Those of the GPU alone; the first of them runs those of the CPU's kernels."""
    command = [PYTHON, "-m", "pytest", "-q", "tests/test_cuda.py", f"--junitxml={out}/tests.xml"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", "3", "--dist", "worksteal"]
    # Versions other than those that are pinned may warn of other things.
    environment = {"VAE_EXT_REQUIRE_CUDA": "1", "PYTEST_ADDOPTS": "-W default"}
    return Step("tests", command, 330, environment)


def checks(out: Path) -> list[Step]:
    """What says right or wrong, and may run beside each other."""
    options = ["--device", "cuda", "--log2", "14", "--out", str(out / "accuracy")]
    found = [tests(out), Step("accuracy", [PYTHON, "-m", "tests.accuracy", *options], 240)]
    for tool in ("memcheck", "racecheck"):
        command = [sanitizer(), f"--tool={tool}", "--error-exitcode=9"]
        command += [PYTHON, "-m", "tools.every_op", "--device", "cuda", "--quick"]
        # Every tensor in an allocation of its own, so that its ends are seen.
        found.append(Step(tool, command, 170, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}))
    return found


OPS = ["sample_kl", "sample", "packed", "draw_16", "kl", "kl_batchmean", "bernoulli"]
OPS += ["gaussian", "gaussian_fixed", "negative_binomial"]
SIZES = ["128x20", "65536x20", "65536x784", "4096x16384"]
LARGEST = "16384x16384"
PARAMETERS = ("images", "priors")


def benchmark(out: Path, *more: str) -> list[str]:
    return [
        PYTHON,
        "-m",
        "benchmarks",
        "--devices",
        "cuda",
        "--ops",
        *OPS,
        "--out",
        str(out),
        *more,
    ]


def of_parameters(out: Path, name: str, *more: str) -> Step:
    """The ops whose elements have several parameters, and steps of models with them."""
    command = [PYTHON, "-m", f"benchmarks.{name}", "--device", "cuda"]
    return Step(out.stem, [*command, "--out", str(out), *more], 200)


def warm(out: Path) -> list[Step]:
    """Compiles what torch.compile's rows need, into its cache: not the largest, since the card's
    memory is shared meanwhile."""
    found = [
        of_parameters(out / f"compile-{name}.json", name, "--rounds", "1") for name in PARAMETERS
    ]
    for dtype in ("float32", "bfloat16"):
        options = ["--rounds", "1", "--dtypes", dtype, "--sizes", *SIZES, "--baselines", "compile"]
        name = f"compile-{dtype}"
        found.append(Step(name, benchmark(out / name, *options), 200))
    return found


def measurements(out: Path) -> list[Step]:
    """What needs the card for itself."""
    dtypes = ("--dtypes", "float32", "bfloat16")
    counters = [PYTHON, "-m", "benchmarks.counters", "--ops", *OPS, "--parameters", *dtypes]
    counters += ["--out", str(out / "counters.json")]
    rounds = ("--rounds", "8", "--training")
    plot = [PYTHON, "-m", "benchmarks.plot", str(out / "cuda.json"), "--out", str(out)]
    bench = benchmark(out / "cuda", *rounds, *dtypes, "--sizes", *SIZES, LARGEST)
    return [
        *(of_parameters(out / f"{name}.json", name) for name in PARAMETERS),
        Step("counters", counters, 120),
        Step("benchmark", bench, 260),
        Step("plot", plot, 60),
    ]


def run(step: Step, out: Path, end: float) -> dict[str, object]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    start = time.monotonic()
    limit = max(1.0, min(step.seconds, end - start))
    log = out / f"{step.name}.log"
    with open(log, "w") as file:
        try:
            done = subprocess.run(
                step.command,
                cwd=ROOT,
                env={**environment, **step.environment},
                stdout=file,
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
    tail = log.read_text(errors="replace").splitlines()
    shown = "\n".join(tail[-40:] if status != "0" else tail[-6:])
    title = f"== {step.name}: {'passed' if status == '0' else status}, {seconds:.0f} s"
    print(f"{title}\n{shown}", flush=True)
    return {"step": step.name, "status": status, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all steps together")
    parser.add_argument("--only", nargs="+", help="these steps alone")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    objects = ["--build-temp", str(out / "objects")]
    build = [PYTHON, "setup.py", "build_ext", "--inplace", *objects]
    groups = [
        [Step("device", ["nvidia-smi"], 20)],
        [Step("build", build, 240, {"VAE_EXT_CUDA": "1"})],
        [*checks(out), *warm(out)],
        *([step] for step in measurements(out)),
    ]
    end = time.monotonic() + 60 * args.minutes
    results: list[dict[str, object]] = []
    for group in groups:
        chosen = [s for s in group if not args.only or s.name in args.only]
        with ThreadPoolExecutor(max(1, len(chosen))) as pool:
            results += pool.map(lambda step: run(step, out, end), chosen)
        (out / "check.json").write_text(json.dumps(results, indent=1) + "\n")
    shutil.rmtree(out / "objects", ignore_errors=True)
    failed = [str(r["step"]) for r in results if r["status"] != "0"]
    print(f"gpu-check: {len(results) - len(failed)} passed, {len(failed)} failed", *failed)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
