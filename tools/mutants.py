"""Does the suite notice? Break the sources in one place at a time, build, and run the tests: each
mutant must fail one.

    python tools/mutants.py [--quick] [--only WORD]

Works on a copy in build/mutants. --quick only checks that every mutation still fits the sources,
and runs the one that needs no build.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build/mutants"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str  # those that should notice, the cheapest first; all of them stop at a failure


MUTANTS = [
    # The noise
    Mutant("nine Philox rounds", "csrc/math/philox.h", "kRound == 9", "kRound == 8", "noise"),
    Mutant("a Philox multiplier", "csrc/math/philox.h", "0xD2511F53u", "0xD2511F51u", "noise"),
    Mutant(
        "high words of the counter dropped",
        "csrc/cpu/philox_blocks.h",
        "c2 = stream, c3 = stream >> 32",
        "c2 = stream, c3 = 0",
        "noise",
    ),
    Mutant(
        "the wrap of the counter's low half overlooked",
        "csrc/cpu/philox_blocks.h",
        "if (block >> 32 == (block + kPhiloxGroup - 1) >> 32) {",
        "if (true) {",
        "noise",
    ),
    Mutant(
        "words of a pair swapped",
        "csrc/cpu/tiles.inl",
        "box_muller(word[0][b], word[1][b], &out[4 * b], &out[4 * b + 1])",
        "box_muller(word[1][b], word[0][b], &out[4 * b], &out[4 * b + 1])",
        "noise",
    ),
    Mutant(
        "sine and cosine swapped",
        "csrc/math/box_muller.h",
        "*sine = r * s;",
        "*sine = r * c;",
        "noise",
    ),
    Mutant(
        "the half step of u dropped",
        "csrc/math/box_muller.h",
        "static_cast<float>(number) * 0x1p-32f + 0x1p-33f;",
        "static_cast<float>(number) * 0x1p-32f;",
        "noise accuracy",
    ),
    Mutant(
        "noise that starts at a multiple of four",
        "csrc/cpu/tiles.inl",
        "return buffer + w.skip;",
        "return buffer;",
        "noise threads properties",
    ),
    # Formulas
    Mutant(
        "the series branch of the KL removed",
        "csrc/math/elementary.h",
        "return fabs(d) < kSeriesEdge<T> ? near : far;\n}\n\n// (exp(d) - 1) / 2.",
        "return far;\n}\n\n// (exp(d) - 1) / 2.",
        "edges accuracy",
    ),
    Mutant(
        "the series branch of its gradient removed",
        "csrc/math/elementary.h",
        "d) - T(0.5);\n  return fabs(d) < kSeriesEdge<T> ? near : far;",
        "d) - T(0.5);\n  return far;",
        "edges accuracy",
    ),
    Mutant(
        "the last term of the series dropped",
        "csrc/math/elementary.h",
        "0x1.9ff47p-17f, 0x1.7dde52p-20f, 0x1.2fe0a4p-23f",
        "0x1.9ff47p-17f, 0x1.7dde52p-20f, 0.f",
        "edges accuracy",
    ),
    Mutant(
        "a sign of a gradient flipped",
        "csrc/math/divergences.h",
        "-g * by_scale(form, (T(0.5) * s) * s + growth, prior_scale)",
        "g * by_scale(form, (T(0.5) * s) * s + growth, prior_scale)",
        "parity",
    ),
    Mutant(
        "a factor 1/2 of a gradient dropped",
        "csrc/math/sampling.h",
        "const T a = form == ScaleForm::kLogStd ? eps : T(0.5) * eps;",
        "const T a = eps;",
        "noise gradients",
    ),
    Mutant(
        "log q through z alone, its score left out",
        "csrc/math/sampling.h",
        "return {path - score, by_logvar - grad_q * square};",
        "return {path, by_logvar - grad_q * square};",
        "draw",
    ),
    Mutant(
        "log q without the variance",
        "csrc/cpu/draw.cpp",
        "k.log_q(n, terms, logvar_tile, eps);",
        "k.log_p(n, terms, eps);",
        "draw",
    ),
    Mutant(
        "the pieces of a sample's event not added",
        "csrc/cpu/draw.cpp",
        "for (int64_t i = 0; i < chunks.per_event(); ++i) {",
        "for (int64_t i = 0; i < 1; ++i) {",
        "draw",
    ),
    Mutant(
        "cross-entropy in the usual form",
        "csrc/math/likelihoods.h",
        "return linear - log1p_unit(mul_exp<kRange>(T(1), minus));",
        "return linear - T(log(T(1) + mul_exp<kRange>(T(1), minus)));",
        "edges accuracy",
    ),
    Mutant(
        "an infinite logit without its limit",
        "csrc/math/likelihoods.h",
        "const T linear = agrees ? T(0) : weight * minus;",
        "const T linear = weight * minus;",
        "edges",
    ),
    Mutant(
        "the constant of the Gaussian off in the eighth digit",
        "csrc/math/formula.h",
        "1.83787706640934548356",
        "1.83787736640934548356",
        "parity accuracy",
    ),
    Mutant(
        "d^2 / sigma^2 for (d / sigma)^2",
        "csrc/math/likelihoods.h",
        "-by_mean, g * by_scale(form, (T(0.5) * s) * s - T(0.5), scale)}};",
        "-by_mean, g * by_scale(form, mul_exp<kRange>(T(0.5) * (target - mean) * (target - mean), "
        "-scale) - T(0.5), scale)}};",
        "edges accuracy",
    ),
    Mutant(
        "exp that overflows before its product",
        "csrc/math/elementary.h",
        "if constexpr (kRange == ExpRange::kBounded) return (a * e.power) * m;",
        "return (a * e.power) * m;",
        "edges accuracy",
    ),
    Mutant(
        "the short exp beyond its range",
        "csrc/cpu/kernels.inl",
        "return excess >= 0;",
        "return true;",
        "edges accuracy",
    ),
    # Tiles, strides, sums
    Mutant(
        "a dropped tail",
        "csrc/cpu/tiles.inl",
        "for (int j = kSums - rest; j < kSums; ++j)",
        "for (int j = kSums - rest + 1; j < kSums; ++j)",
        "parity",
    ),
    Mutant(
        "a wrong event stride",
        "csrc/cpu/chunks.h",
        "const int64_t event_begin = chunk / per_event_ * event_size_;",
        "const int64_t event_begin = chunk / per_event_ * chunk_ * per_event_;",
        "parity",
    ),
    Mutant(
        "events cut where tiles end",
        "csrc/cpu/chunks.h",
        "std::min<int64_t>(n - at, left)",
        "n - at",
        "parity",
    ),
    Mutant(
        "the tiles of a chunk not added",
        "csrc/cpu/reduce.h",
        "of_chunk[i] += k.sum(count, values + at);",
        "of_chunk[i] = k.sum(count, values + at);",
        "parity",
    ),
    Mutant(
        "truncation to bfloat16",
        "csrc/math/half.h",
        "(u + 0x7fffu + ((u >> 16) & 1u)) >> 16",
        "u >> 16",
        "parity",
    ),
    Mutant(
        "a stride of one for every run",
        "csrc/cpu/operand.h",
        "k.load(count, storage_, data_ + at_offset * size_of(storage_), stride, buffer + at);",
        "k.load(count, storage_, data_ + at_offset * size_of(storage_), 1, buffer + at);",
        "layouts",
    ),
    Mutant(
        "the mean's factor dropped from the gradient",
        "csrc/cpu/operand.h",
        "return Input(static_cast<T>(value * plan.scale()));",
        "return Input(static_cast<T>(value));",
        "parity",
    ),
    Mutant(
        "a unit dropped where a thread's share ends",
        "csrc/cpu/chunks.h",
        "for (int64_t chunk = first; chunk < last; ++chunk) body(chunk);",
        "for (int64_t chunk = first; chunk < last - (first > 0); ++chunk) body(chunk);",
        "parity threads",
    ),
    Mutant(
        "a gradient outside the bounds",
        "csrc/math/sampling.h",
        "return x < in.low || x > in.high ? T(0) : g;",
        "return x < in.low || x >= in.high + 1 ? T(0) : g;",
        "distributions",
    ),
    Mutant(
        "the bounds left out of the KL",
        "csrc/cpu/latent.cpp",
        "Input<T>(a.scale, a.kl.plan.shape).within(a.bounds)",
        "Input<T>(a.scale, a.kl.plan.shape)",
        "distributions",
    ),
    Mutant(
        "the halves of packed moments swapped",
        "csrc/ops/tensors.h",
        "return {torch::stable::narrow(first, dim, 0, half),",
        "return {torch::stable::narrow(first, dim, half, half),",
        "distributions",
    ),
    Mutant(
        "targets above 1 let pass",
        "csrc/cpu/formula_loops.inl",
        "if (most <= bits_of(F::kLargestTarget)) return false;",
        "return false;",
        "refused_targets",
    ),
    # Python
    Mutant(
        "a gradient that is never scaled",
        "vae_ext/_autograd/formulas.py",
        "if not (grad.is_cpu and grad.item() == ctx.expected):",
        "if False:",
        "node",
    ),
    Mutant(
        "a gradient that is given away twice",
        "vae_ext/_autograd/formulas.py",
        "found, ctx.found = ctx.found, None",
        "found = ctx.found",
        "node",
    ),
    Mutant(
        "saved where edits are not seen",
        "vae_ext/_autograd/formulas.py",
        "        function = ctx._forward_cls\n        inputs = ctx.saved_tensors",
        "        function = ctx._forward_cls\n"
        "        inputs = ctx.needs_input_grad[:-1] if ctx.found else ctx.saved_tensors",
        "node",
    ),
    Mutant(
        "a node's gradient that is never scaled",
        "csrc/node/op_function.cpp",
        "if (grad.is_cpu() && grad.item<double>() == *call.expected) return found;",
        "return found;",
        "parity",
    ),
    Mutant(
        "a node's gradient that is given away twice",
        "csrc/node/op_function.cpp",
        "std::move(found->second).toTensor());\n    data.erase(found);",
        "found->second.toTensor());",
        "faults",
    ),
    Mutant(
        "a node whose gradients have none themselves",
        "csrc/node/op_function.cpp",
        "if (at::GradMode::is_enabled() || ",
        "if (",
        "transforms",
    ),
    Mutant(
        "an op without its derivative",
        "vae_ext/_native/registration.py",
        "return function.fast_apply(*args[:n], args[n:])",
        "pass",
        "ops",
    ),
    Mutant(
        "one noise for all examples of a vmap",
        "vae_ext/_native/seeds.py",
        '(new_seed_for_vmap if within("Vmap") else new_seed_tensor)(mu.device)',
        "new_seed_tensor(mu.device)",
        "transforms",
    ),
    Mutant(
        "samples that are not weighted",
        "vae_ext/_weighting.py",
        "if grad_z is None or grad_zeros is None:",
        "if True:",
        "estimators",
    ),
    Mutant(
        "a carry lost between halves of a product",
        "vae_ext/_reference/philox.py",
        "high_half(other) + (carry >> 16)",
        "high_half(other)",
        "noise",
    ),
    Mutant(
        "the same seed for every call",
        "vae_ext/_native/seeds.py",
        "return (None, library.new_cpu_seed()) if",
        "return (None, 1) if",
        "noise",
    ),
    # Counts
    Mutant(
        "a deviance from its far branch",
        "csrc/math/special.h",
        "x > T(-0.65) && x < T(1.5)",
        "x > T(-0.01) && x < T(0.01)",
        "counts accuracy",
    ),
    Mutant(
        "no step of Binet's function below 1",
        "csrc/math/special.h",
        "const T step = (y + T(0.5)) * log_far(ratio(y + T(1), y)) - T(1);",
        "const T step = T(0);",
        "counts accuracy",
    ),
    Mutant(
        "the gradient by a log-dispersion as that by the dispersion",
        "csrc/math/counts.h",
        "form == kLogDispersion ? theta * by_theta : by_theta",
        "by_theta",
        "counts",
    ),
    Mutant(
        "a mixture near 0 from afar",
        "csrc/math/count_mixtures.h",
        "const bool near = a > T(-1) && b > T(-1);",
        "const bool near = false;",
        "counts accuracy",
    ),
    Mutant(
        "the mixture's derivative by its logits with one sign",
        "csrc/math/count_mixtures.h",
        "by_l = first ? -by_a",
        "by_l = first ? by_a",
        "counts accuracy",
    ),
    Mutant(
        "zeros beside counts forgotten",
        "csrc/cpu/split_at_zero.inl",
        "moved(zeros, few, in, out, of_zero);",
        "moved(zeros - 1, few, in, out, of_zero);",
        "count_tiles parity",
    ),
    Mutant(
        "fractions taken for whole counts",
        "csrc/cpu/split_at_zero.inl",
        "return {zeros, fractions == 0};",
        "return {zeros, true};",
        "count_tiles accuracy",
    ),
    Mutant(
        "what is left of a tile not in a whole vector",
        "csrc/cpu/split_at_zero.inl",
        "run(whole_vectors(count), from, to);",
        "run(count, from, to);",
        "count_tiles",
    ),
    Mutant(
        "a row's gradient summed over one block of rows",
        "csrc/cpu/gradients.h",
        "for (int64_t down = 1; down < blocks_.down(); ++down) {",
        "for (int64_t down = 1; down < 1; ++down) {",
        "row_gradients",
    ),
    Mutant(
        "padding that reaches the gradients",
        "csrc/cpu/tiles.inl",
        "x[i] = weights[i] == T(0) ? T(0) : x[i] * weights[i];",
        "x[i] = x[i] * weights[i];",
        "weights",
    ),
    Mutant(
        "padding that is refused as a target",
        "csrc/cpu/tiles.inl",
        "out[i] = weights[i] == T(0) ? T(0) : x[i];",
        "out[i] = x[i];",
        "weights",
    ),
    Mutant(
        "a mean by weights that counts elements",
        "vae_ext/functional/_reduction.py",
        "SUM if self.by_weights else code",
        "code",
        "weights",
    ),
    Mutant(
        "a count that nobody reads",
        "csrc/ops/tensors.h",
        "count = asked.count.value_or(reduction == Reduction::kMean ? numel : n_events);",
        "count = reduction == Reduction::kMean ? numel : n_events;",
        "reduction_count",
    ),
    Mutant(
        "a weight of 0 with a gradient",
        "vae_ext/_autograd/formulas.py",
        ".masked_fill(weights == 0, 0.0)",
        "",
        "weights",
    ),
    Mutant(
        "a component's log-density in float",
        "csrc/math/mixture.h",
        "const T gap = static_cast<T>(term - log_sum);",
        "const T gap = static_cast<T>(term) - static_cast<T>(log_sum);",
        "mixtures",
    ),
    Mutant(
        "a mixture's gradient by logvar without its constant",
        "csrc/cpu/mixture_loops.inl",
        "second[v] += share * (t * t - T(1));",
        "second[v] += share * (t * t);",
        "mixtures",
    ),
    Mutant(
        "the parts of the events not added",
        "csrc/cpu/mixture.cpp",
        "for (int64_t part = 1; part < parts; ++part) {",
        "for (int64_t part = 2; part < parts; ++part) {",
        "mixtures",
    ),
    Mutant(
        "a sample's own weight in the aggregated posterior",
        "vae_ext/_total_correlation.py",
        "weights.masked_fill(step == 0, 1 / n_data)",
        "weights.masked_fill(step == 0, 1 / (n_data + 1))",
        "total_correlation",
    ),
    Mutant(
        "Student's t beyond the range of its square",
        "csrc/math/likelihoods.h",
        "log1p_q = r > T(1e9) ? beyond : near;",
        "log1p_q = near;",
        "accuracy",
    ),
    Mutant(
        "Student's t of a subnormal distance, which has lost its digits",
        "csrc/math/likelihoods.h",
        "tiny ? distance * T(0x1p64) : distance",
        "tiny ? distance * T(0x1p0) : distance",
        "edges",
    ),
    Mutant(
        "a derivative by std without its factor 2",
        "csrc/math/scale.h",
        "return T(2) * by_logvar / scale;",
        "return by_logvar / scale;",
        "scales",
    ),
    Mutant(
        "a loop that is no vector code",
        "csrc/math/likelihoods.h",
        "const T height = logvar < lowest ? lowest : logvar;",
        "const T height = s != T(0) && logvar < T(-1e30) ? T(-1e30) : logvar;",
        "vectorization",
    ),
    Mutant(
        "a KL of log_std beyond the range of its exp",
        "csrc/math/divergences.h",
        "(form == ScaleForm::kLogStd ? half_expm1_minus_x(d) :",
        "(form == ScaleForm::kLogStd ? half_expm1_minus_x<kRange>(d) :",
        "scales",
    ),
]


def tests_of(words: str) -> list[str]:
    return ["tests/accuracy" if w == "accuracy" else f"tests/test_{w}.py" for w in words.split()]


def applies(mutant: Mutant) -> bool:
    return (ROOT / mutant.file).read_text().count(mutant.old) == 1


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
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, COPY / name)


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


def run_tests(words: str) -> subprocess.CompletedProcess[str]:
    # With -c the working directory, which is the copy, comes before what is installed.
    code = (
        "import sys, pytest, vae_ext; assert 'mutants' in vae_ext.__file__, vae_ext.__file__; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "-q", "-x", "-p", "no:cacheprovider", *tests_of(words)],
        cwd=COPY,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def first_failure(output: str) -> str:
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split("::", 1)[-1].split(" - ")[0] if failed else ""


def killed_by(mutant: Mutant) -> str:
    """The test that failed, or "" if none did. The copy is as it was, afterwards."""
    path = COPY / mutant.file
    source = path.read_text()
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        done = build()  # after a mutant of the native sources, a Python one needs it too
        if done.returncode:
            print(done.stdout[-2000:] + done.stderr[-2000:])
            sys.exit(f"the mutant does not compile: {mutant.name}")
        done = run_tests(mutant.tests)
        return first_failure(done.stdout) or ("a crash" if done.returncode not in (0, 1) else "")
    finally:
        path.write_text(source)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="mutants whose names have this word")
    args = parser.parse_args()
    stale = [m.name for m in MUTANTS if not applies(m)]
    if stale:
        print("these no longer fit the sources:", *stale, sep="\n  ")
        return 1
    chosen = [m for m in MUTANTS if args.only in m.name]
    if args.quick:
        print(f"{len(MUTANTS)} mutants fit the sources")
        return 0

    copy_sources()
    print("building the copy, and running all their tests unbroken ...", flush=True)
    done = build()
    if done.returncode:
        print(done.stdout + done.stderr)
        return 1
    healthy = run_tests(" ".join(dict.fromkeys(w for m in chosen for w in m.tests.split())))
    if healthy.returncode:
        print(healthy.stdout[-3000:])
        print("the tests fail without a mutant")
        return 1
    table = Table("mutant", "file", "killed by", "seconds")
    survivors = []
    for mutant in chosen:
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
