"""What is shipped, and what an import does: nothing but define functions."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "vae_ext").rglob("*.py"))

# Modules by which code or data could come in, and names that run or unpickle.
FORBIDDEN_MODULES = {
    *("pickle", "marshal", "shelve", "dill", "cloudpickle", "socket", "ssl", "urllib", "http"),
    *("requests", "ftplib", "subprocess", "multiprocessing", "ctypes", "tempfile"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "system", "popen"),
    *("torch.load", "torch.hub.load", "torch.utils.cpp_extension.load"),
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.name)
def test_sources_run_and_unpickle_nothing(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        assert not {n.split(".")[0] for n in names} & FORBIDDEN_MODULES, names
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            builtin = isinstance(node.func, ast.Name) and called in FORBIDDEN_CALLS
            assert not builtin, called
            assert called not in FORBIDDEN_CALLS, called


AUDIT = """
import sys, torch, torch.library, torch.autograd.forward_ad
import numpy
seen = []
def hook(event, args):
    if event.startswith(("socket.", "subprocess.", "os.exec", "os.fork", "os.spawn", "os.system",
                         "urllib.", "pickle.", "ftplib.", "http.", "shutil.", "tempfile.")):
        seen.append((event, str(args)[:200]))
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append((event, str(args)[:200]))
sys.addaudithook(hook)
sys.dont_write_bytecode = True
import vae_ext
assert not seen, seen
vae_ext.reparameterize(torch.zeros(3), torch.zeros(3))
assert not seen, seen
import subprocess
subprocess.run(["true"])
assert seen, "the hook sees nothing"
"""


def test_import_fetches_and_builds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AUDIT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_of_the_source_distribution(tmp_path: Path) -> None:
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if not m.isdir()]
        assert all(m.isfile() for m in members)  # no links
        files = {m.name.split("/", 1)[1] for m in members}
    native = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "csrc").rglob("*")
        if p.is_file() and p.suffix != ".pyc"
    }
    python = {str(p.relative_to(ROOT)) for p in SOURCES} | {"vae_ext/_C.pyi", "vae_ext/py.typed"}
    made = {"PKG-INFO", "setup.cfg"}
    made |= {
        f"vae_ext.egg-info/{name}"
        for name in (
            *("PKG-INFO", "SOURCES.txt", "dependency_links.txt", "requires.txt"),
            "top_level.txt",
        )
    }
    others = {
        *("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "constraints.txt"),
        *("pyproject.toml", "setup.py"),
    }
    assert files == native | python | made | others


def pins(file: str) -> dict[str, set[str]]:
    """Versions by normalized name: more than one where they depend on Python's."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", (ROOT / file).read_text(), re.M
    ):
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return found


@pytest.mark.parametrize("folder", ["tools", "docs"])
def test_tools_are_pinned_by_hash(folder: str) -> None:
    text = (ROOT / folder / "requirements.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 2)[2])
    assert len(entries) > 30
    assert all("--hash=sha256:" in e and "==" in e for e in entries)
    constraints = pins("constraints.txt")
    for name, versions in pins(f"{folder}/requirements.txt").items():
        if name in constraints:
            assert versions <= constraints[name], name
    wanted = (ROOT / folder / "requirements.in").read_text().split()
    assert set(wanted) <= set(pins(f"{folder}/requirements.txt"))
