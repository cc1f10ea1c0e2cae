"""The quick part of `make mutants`: every mutation still fits the sources, and one is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.mutants import MUTANTS

ROOT = Path(__file__).resolve().parent.parent


def test_every_mutation_fits() -> None:
    assert len(MUTANTS) >= 20
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    for m in MUTANTS:
        assert m.fits(), m.name
        assert m.old != m.new
        assert all((ROOT / t).exists() for t in m.paths())


def test_one_is_killed(tmp_path: Path) -> None:
    """On a copy of the package as it is built, since this mutant needs no compiler."""
    (mutant,) = [m for m in MUTANTS if m.name == "the same seed for every call"]
    shutil.copytree(ROOT / "vae_ext", tmp_path / "vae_ext")
    path = tmp_path / mutant.file
    test = str(ROOT / "tests/test_noise.py") + "::test_torch_governs_the_default"
    code = (
        "import sys, pytest, vae_ext; assert not vae_ext.__file__.startswith(sys.argv[1]); "
        "sys.exit(pytest.main(sys.argv[2:]))"
    )
    for broken in (False, True):
        if broken:
            path.write_text(path.read_text().replace(mutant.old, mutant.new))
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT), "-q", "-p", "no:cacheprovider", test],
            cwd=tmp_path,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (1 if broken else 0), done.stdout + done.stderr
