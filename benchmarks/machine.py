"""What a result was measured on."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

import vae_ext


def processor() -> str:
    """The name that the operating system has for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def describe(device: torch.device) -> dict[str, object]:
    root = str(Path(__file__).parent.parent)
    # What is measured, and by what; the results themselves are not.
    code = ("csrc", "vae_ext", "benchmarks/*.py", "setup.py")
    changed = output_of("git", "-C", root, "status", "--porcelain", "--", *code)
    found: dict[str, object] = {
        "vae_ext": vae_ext.__version__,
        "commit": output_of("git", "-C", root, "rev-parse", "HEAD") + ("+" if changed else ""),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "simd": vae_ext.simd_level(),
        "torch_simd": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found |= {
            "gpu": torch.cuda.get_device_name(device),
            "driver": output_of(*query),
            "cuda": torch.version.cuda,
            "l2_bytes": torch.cuda.get_device_properties(device).L2_cache_size,
        }
    return found
