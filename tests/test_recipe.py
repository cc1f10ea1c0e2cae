"""CONTRIBUTING's recipe for a new likelihood, followed with a toy: in a copy of the sources the
files that it names are edited, the library is built, and the suite is run for what is new. The toy
is a Gaussian with a variance of 1."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# File by file, what goes before which text.
EDITS: dict[str, list[tuple[str, str]]] = {
    "csrc/math/likelihoods.h": [
        (
            "VAE_EXT_NAMESPACE_END",
            """struct Unit {  // mean, target
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 0, kTarget = 1;
  static constexpr int kExponents[] = {0};

  template <ExpRange, class T>
  VAE_EXT_INLINE static T value(T mean, T target) {
    const T d = target - mean;
    return -((T(0.5) * d) * d + T(0.5) * kLog2Pi<T>);
  }

  template <ExpRange, class T>
  VAE_EXT_INLINE static Gradients<T, 2> gradients(T g, T mean, T target) {
    return {{g * (target - mean), g * (mean - target)}};
  }
};

""",
        )
    ],
    "csrc/ops/formulas.def": [
        (
            "VAE_EXT_DIVERGENCE(",
            'VAE_EXT_LIKELIHOOD(unit, Unit, "Tensor mean, Tensor target", "")\n',
        )
    ],
    "vae_ext/_reference/formulas.py": [
        (
            "def height(",
            """def unit_terms(mean: Tensor, target: Tensor) -> Tensor:
    d = target - mean
    return -((0.5 * d) * d + 0.5 * LOG_2PI)


""",
        )
    ],
    "vae_ext/_formulas.py": [
        ("LIKELIHOODS = {", "from ._reference.formulas import unit_terms\n\n"),
        (
            "LIKELIHOODS = {",
            "UNIT = Likelihood(\n"
            '    "unit", "mean", unit_terms, lambda mean, t: Normal(mean, 1.0).log_prob(t)\n)\n',
        ),
        (", STUDENT_T, POISSON", ", UNIT"),
    ],
    "vae_ext/functional/_likelihoods.py": [
        ('    "student_t_log_likelihood",\n]', '    "unit_log_likelihood",\n'),
        ("    Form,\n    Likelihood,", "    UNIT,\n"),
        (
            "def bernoulli_log_likelihood(",
            '''def unit_log_likelihood(
    mean: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log N(target; mean, 1), nats, [batch] by default. Source, Raises: as the Gaussian."""
    asked = Reduction(weights, event_dims, reduction, count)
    return log_likelihood(UNIT, mean, target, (), asked)


''',
        ),
    ],
    "vae_ext/nn/_losses.py": [
        ('    "StudentTNLL",\n]', '    "UnitNLL",\n'),
        (", STUDENT_T, Likelihood", ", UNIT"),
        (
            "class ELBOLoss(",
            '''class UnitNLL(NLL):
    """−log N(target; mean, 1), nats, of mean and target [batch, ...]. Source, Raises: as above."""

    def __init__(self, *, event_dims: int | None = None, reduction: str = "mean") -> None:
        super().__init__(UNIT, event_dims, reduction)

    def forward(
        self,
        mean: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(mean, target, weights, count)


''',
        ),
    ],
    "tests/exact.py": [
        (
            "# ---- Samples ---",
            """def unit(m: Any, mean: Any, target: Any) -> Any:
    return -(target - mean) * (target - mean) / 2, -m.log_2pi / 2


def unit_dmean(m: Any, mean: Any, target: Any) -> Any:
    return (target - mean,)


""",
        )
    ],
    "tests/likelihood_cases.py": [
        (
            "LIKELIHOODS = [",
            """UNIT = likelihood(
    "unit",
    Quantity("Unit", exact.unit),
    {"mean": (Quantity("∂/∂mean", exact.unit_dmean),)},
    lambda d: {"ordinary": [d.normal(), d.normal()]},
    {"eager": plain(lambda m, x: math.log(2 * math.pi) + (x - m).pow(2), 0.5, -1)},
    words=3,
)

""",
        ),
        (", STUDENT_T]", ", UNIT"),
    ],
    "docs/derivations.md": [("[test_derivations]:", "## Unit log-likelihood\n\n∂/∂m = x − m.\n\n")],
    "docs/reference/likelihoods.md": [
        (
            "## mixture_log_density",
            "## unit_log_likelihood\n\n$$-(x - m)^2 / 2$$\n\n```python\n"
            "vae_ext.unit_log_likelihood(torch.zeros(2, 5), torch.ones(2, 5))\n```\n\n"
            "```{eval-rst}\n.. autofunction:: vae_ext.unit_log_likelihood\n```\n\n",
        )
    ],
    "CHANGELOG.md": [("## [0.2.0]", "- `unit_log_likelihood`.\n\n")],
}
TESTS = [
    *("parity", "gradients", "ops", "memory", "edges", "errors", "modes", "elbo", "layouts"),
    *("documentation", "faults", "pages"),
]


def test_the_recipe_names_these_files() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    recipe = page.split("## A new likelihood")[1].split("\n## ")[0]
    named = set(re.findall(r"^\d+\. `([^`]+)`", recipe, re.MULTILINE))
    assert named == set(EDITS)


def insert(path: Path, before: str, text: str) -> None:
    source = path.read_text()
    assert source.count(before) >= 1, (path, before)
    path.write_text(source.replace(before, text + before, 1))


def test_a_toy_likelihood(tmp_path: Path) -> None:
    for name in ("csrc", "vae_ext", "tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name, edits in EDITS.items():
        for before, text in edits:
            insert(tmp_path / name, before, text)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    flags = {"VAE_EXT_CUDA": "0", "VAE_EXT_DEBUG": "1"}
    run(build, tmp_path, flags)
    tests = [f"tests/test_{name}.py" for name in TESTS] + ["tests/accuracy"]
    code = (
        "import sys, pytest, vae_ext; assert vae_ext.__file__.startswith(sys.argv[1]); "
        "sys.exit(pytest.main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), "-q", "-p", "no:cacheprovider"]
    names = "(unit or Unit) and not vector_tails and not event_sizes"
    output = run([*command, "-k", names, *tests], tmp_path, {})
    (passed,) = re.findall(r"(\d+) passed", output)
    assert int(passed) > 200, output
    assert "unit_log_likelihood" in run([sys.executable, "-m", "vae_ext"], tmp_path, {})


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    return done.stdout
