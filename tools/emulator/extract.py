"""Machine code out of the objects that nvcc made, as the emulator reads it.

For each object a program beside it: NAME.program, and NAME.program.index with the place of every
kernel in it. Written again only when the object is newer.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

INSTRUCTION = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s+/\* 0x([0-9a-f]{16}) \*/")
NOT_A_NUMBER = re.compile(r"[-+]?[QS]NAN\b")
FUNCTION = re.compile(r"\s+Function : (\S+)")
RESOURCES = re.compile(
    r"Compiling entry function '(\S+)' for '(sm_\d+)'.*?Used (\d+) registers", re.DOTALL
)


class MissingToolError(Exception):
    pass


def cuobjdump() -> Path:
    """From a CUDA toolkit, or from NVIDIA's package beside this Python."""
    site = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    found = [*sorted(site.glob("cu*/bin/cuobjdump"), reverse=True)]
    on_path = shutil.which("cuobjdump")
    found += [Path(on_path)] if on_path else []
    if not found:
        raise MissingToolError("cuobjdump was not found: pip install nvidia-cuda-cuobjdump")
    return found[0]


# ---- The container -------------------------------------------------------------------------------


class Section(NamedTuple):
    size: int
    content: bytes


def sections(elf: bytes) -> dict[str, Section]:
    start, entry, count, names = (
        struct.unpack_from("<Q", elf, 0x28)[0],
        *struct.unpack_from("<HHH", elf, 0x3A),
    )
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, start + i * entry) for i in range(count)]
    name_table = headers[names][4]
    found = {}
    for name, kind, _, _, offset, size, *_ in headers:
        end = elf.index(b"\0", name_table + name)
        no_bits = kind == 8
        content = b"" if no_bits else elf[offset : offset + size]
        found[elf[name_table + name : end].decode()] = Section(size, content)
    return found


def parameters(info: bytes) -> list[tuple[int, int]]:
    """Offsets and sizes, from the attributes of a kernel."""
    found, at = [], 0
    while at < len(info):
        form, attribute = info[at], info[at + 1]
        if form != 4:
            at += 4
            continue
        (size,) = struct.unpack_from("<H", info, at + 2)
        if attribute in (0x17, 0x45):  # the second where there are more than 4 KB of them
            _, ordinal, offset, packed = struct.unpack_from("<IHHI", info, at + 4)
            found.append((ordinal, offset, packed >> 18 if attribute == 0x17 else packed))
        at += 4 + size
    return [(offset, size) for _, offset, size in sorted(found)]


def code_of(sass: Iterator[str]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in sass:
        instruction = INSTRUCTION.match(line)
        if instruction:
            pc, text, encoding = instruction.groups()
            # Which one is only in the encoding, whose upper half is the immediate.
            current.append((pc, NOT_A_NUMBER.sub(f"0x{encoding[:8]}", text)))
            continue
        function = FUNCTION.match(line)
        if function:
            current = found.setdefault(function[1], [])
    return found


def titles(names: list[str]) -> list[str]:
    text = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    ).stdout
    return [short_title(line) for line in text.splitlines()]


def short_title(demangled: str) -> str:
    text = re.sub(r"^void |vae_ext::|\(anonymous namespace\)::|generic::", "", demangled)
    for number, name in enumerate(("float32", "float64", "float16", "bfloat16")):
        text = text.replace(f"(Storage){number}", name)
    text = re.sub(r"\(\w+\)(\d+)", r"\1", text)
    return re.sub(r"\(.*", "", text)


# ---- Programs ------------------------------------------------------------------------------------


def extract(source: Path, architecture: int) -> Path:
    """The program of an object's kernels for one architecture."""
    program = source.with_suffix(f".sm_{architecture}.program")
    newest = max(source.stat().st_mtime, Path(__file__).stat().st_mtime)
    if program.exists() and program.stat().st_mtime > newest:
        return program
    registers = {
        name: int(used)
        for name, arch, used in RESOURCES.findall(Path(f"{source}.log").read_text())
        if arch == f"sm_{architecture}"
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [str(cuobjdump()), "-xelf", f"sm_{architecture}", str(source.resolve())]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        cubins = [p for p in Path(folder).iterdir() if f"sm_{architecture}" in p.name]
        if not cubins:
            raise MissingToolError(f"{source} has no machine code for sm_{architecture}")
        write(program, cubins, architecture, registers)
    return program


def write(program: Path, cubins: list[Path], architecture: int, registers: dict[str, int]) -> None:
    places = []
    with open(program, "w") as out:
        for cubin in cubins:
            parts = sections(cubin.read_bytes())
            command = [str(cuobjdump()), "-sass", str(cubin)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
                assert listing.stdout
                code = code_of(listing.stdout)
            if listing.returncode:
                raise MissingToolError(f"cuobjdump failed on {cubin.name}")
            for (name, lines), title in zip(code.items(), titles(list(code)), strict=True):
                places.append((out.tell(), name))
                out.write(f"K {name} {title}\n")
                shared = parts.get(f".nv.shared.{name}", Section(0, b"")).size
                out.write(f"A {architecture} {registers.get(name, 0)} {shared}\n")
                for offset, size in parameters(parts[f".nv.info.{name}"].content):
                    out.write(f"P {offset} {size}\n")
                for bank in (2, 3, 4):
                    content = parts.get(f".nv.constant{bank}.{name}", Section(0, b"")).content
                    words = struct.unpack(f"<{len(content) // 4}I", content)
                    if words:
                        # As instructions name it: what nvcc calls bank 4 they call bank 3 or 4.
                        out.write(f"C {bank} " + " ".join(f"{w:x}" for w in words) + "\n")
                out.writelines(f"I {pc} {text}\n" for pc, text in lines)
    index = "".join(f"{place} {name}\n" for place, name in places)
    program.with_name(program.name + ".index").write_text(index)


def extract_all(objects: list[Path], architecture: int) -> list[Path]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda source: extract(source, architecture), objects))


if __name__ == "__main__":
    folder, arch = Path(sys.argv[1]), int(sys.argv[2])
    print(*extract_all(sorted(folder.glob("*.o")), arch), sep="\n")
