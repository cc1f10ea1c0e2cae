"""What the hardware counted of each kernel, beside what the emulator counts of the same build.

    python -m tools.emulator.compare benchmarks/results/h100-counters.json

The first is what `python -m benchmarks.counters` wrote on a card, the second the budget; of another
build the numbers differ, as they should. Fails where they differ by more than 1 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .__main__ import BUDGET

# The rows of the budget, by the op of the benchmark: the kernels of a step in their order.
ROWS = {
    "sample": ["sample, forward", "sample, backward"],
    "sample_kl": ["sample_kl, forward", "sample_kl, backward"],
    "kl": ["kl, forward", "kl, backward"],
    "bernoulli": ["bernoulli mean, one pass"],
    "gaussian": ["gaussian mean, one pass"],
    "gaussian_fixed": ["gaussian_fixed mean, one pass"],
}


def kernels_of(found: list[dict[str, Any]], op: str, dtype: str) -> list[dict[str, Any]]:
    mine = [k for k in found if (k["op"], k["dtype"]) == (op, dtype)]
    large = [k for k in mine if (k["rows"], k["columns"]) == (4096, 16384)]
    return [k for k in large if not k["kernel"].startswith(("add_chunks", "scale"))]


def compared(found: list[dict[str, Any]]) -> list[tuple[str, str, float, float]]:
    budget = json.loads(BUDGET.read_text())["instructions"]
    lines = []
    for op, names in ROWS.items():
        for dtype in ("float32", "bfloat16"):
            kernels = kernels_of(found, op, dtype)
            for name, kernel in zip(names, kernels, strict=True):
                hardware = 32 * kernel["instructions"] / (4096 * 16384)
                emulated = budget[f"{name} | {dtype} | 4096x16384"]
                lines.append((name, dtype, hardware, emulated))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("counters", type=Path)
    document = json.loads(parser.parse_args().counters.read_text())
    lines = compared(document["kernels"])
    print("| op | dtype | hardware | emulator |\n| --- | --- | ---: | ---: |")
    for name, dtype, hardware, emulated in lines:
        print(f"| {name} | {dtype} | {hardware:.1f} | {emulated:.1f} |")
    worst = max(abs(emulated / hardware - 1) for _, _, hardware, emulated in lines)
    print(f"the largest difference: {100 * worst:.2f} %")
    return 0 if worst <= 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
