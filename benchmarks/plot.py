"""Draw result files: python -m benchmarks.plot RESULT.json ... --out DIR

Writes NAME-time.png (time against size), NAME-roofline.png (per cent of the bandwidth of a copy)
and NAME-memory.png (the most words held per element) for each file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLORS = {
    "eager": "tab:gray",
    "distributions": "tab:brown",
    "compile": "tab:blue",
    "compile-max": "tab:cyan",
    "vae_ext": "tab:red",
    "copy": "black",
}
LABELS = {
    "compile": "torch.compile",
    "compile-max": "torch.compile at its strongest",
    "distributions": "torch.distributions",
    "copy": "limit (copy)",
}


def elements(result: dict[str, Any]) -> int:
    return int(result["rows"]) * int(result["columns"])


def panels(results: list[dict[str, Any]]) -> tuple[Any, list[tuple[Any, list[dict[str, Any]]]]]:
    """A figure with a panel for each op and dtype, and the results that belong there by size."""
    keys = list(dict.fromkeys((r["op"], r["dtype"]) for r in results))
    columns = min(4, len(keys))
    rows = -(-len(keys) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 3 * rows), squeeze=False, layout="constrained"
    )
    found = []
    for axis, key in zip(axes.flat, keys, strict=False):
        axis.set_title(", ".join(key), fontsize=9)  # some ops have long names
        axis.set_xscale("log")
        axis.set_xlabel("elements")
        axis.grid(alpha=0.3)
        mine = [r for r in results if (r["op"], r["dtype"]) == key]
        found.append((axis, sorted(mine, key=elements)))
    for axis in axes.flat[len(keys) :]:
        axis.remove()
    return figure, found


def draw(results: list[dict[str, Any]], path: Path, title: str, label: str, series: Any) -> None:
    figure, found = panels(results)
    for axis, mine in found:
        for name, values in series(mine).items():
            axis.plot(
                [elements(r) for r in mine],
                values,
                color=COLORS[name],
                marker=".",
                zorder=3 if name == "vae_ext" else 2,  # over those that are as good
                linestyle="--" if name == "copy" else "-",
                label=LABELS.get(name, name),
            )
    if "time" in path.name:
        for axis, _ in found:
            axis.set_yscale("log")
    figure.suptitle(title)
    figure.supylabel(label)
    figure.legend(*found[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for file in args.results:
        document = json.loads(file.read_text())
        results, about = document["results"], document["machine"]
        where = about.get("gpu") or "{processor}, {simd}, {threads} threads".format(**about)
        title = f"{where}, torch {about['torch']}"
        names = list(results[0]["times"])
        draw(
            results,
            args.out / f"{file.stem}-time.png",
            title,
            "ms, forward and backward",
            lambda mine, names=names: {n: [r["times"][n]["p50"] for r in mine] for n in names},
        )
        draw(
            results,
            args.out / f"{file.stem}-roofline.png",
            title,
            "% of the bandwidth of a copy",
            lambda mine, names=names: {
                n: [100 * r["times"]["copy"]["p50"] / r["times"][n]["p50"] for r in mine]
                for n in names
                if n != "copy"
            },
        )
        draw(
            results,
            args.out / f"{file.stem}-memory.png",
            title,
            "most words held, per element",
            lambda mine, names=names: {
                n: [r["peak_words"][n] for r in mine] for n in names if n != "copy"
            },
        )
        print(f"{args.out}/{file.stem}-{{time,roofline,memory}}.png")


if __name__ == "__main__":
    main()
