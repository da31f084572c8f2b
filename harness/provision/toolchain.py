# SPDX-License-Identifier: GPL-2.0-or-later
"""A compiler of the distribution's, for modules of its kernels: gcc, binutils and make, which no machine need have.

They run through the loader and the libraries that came with them, as do the programs in packages of headers. make and
gcc start further programs by themselves, hence a script for each.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun
from harness.provision import elf
from harness.provision.apt import AptRoot, unpack
from harness.provision.cache import Cache, digest
from harness.provision.prefix import LOADER, Prefix

SUITE = "trixie"
_FORMAT = 1
"""Part of the key: another number makes all that there are be made anew."""
_TRIPLET = "x86_64-linux-gnu"
_BINUTILS = ("ld", "ar", "nm", "objcopy", "objdump", "readelf", "strip")
_PACKAGES = ("make", "libelf1t64")
_LIBRARY = f"usr/lib/{_TRIPLET}/libelf.so.1"
"""What the kernel's own tools (objtool) need besides."""
_ELF = b"\x7fELF"


@dataclass(frozen=True)
class Toolchain:
    """An unpacked compiler."""

    root: Path

    @property
    def bin(self) -> Path:
        """The folder of what can be called, to be first in PATH."""
        return self.root / "bin"

    def adopt(self, folder: Path) -> None:
        """Have every program below `folder` run with the libraries of this toolchain."""
        for path in [Path(at, name) for at, _, names in os.walk(folder) for name in names]:
            if path.is_symlink() or not _is_program(path):
                continue
            moved = path.rename(path.with_name(f"{path.name}.elf"))
            argv = Prefix(self.root).argv(str(moved.absolute()), name="$0")  # Debian's look beside $0 for others
            _write(path, "exec " + " ".join('"$0"' if word == "$0" else shlex.quote(word) for word in argv))


def provide(cache: Cache, apt: AptRoot, compiler: str) -> Toolchain:
    """Give the toolchain around `compiler` (such as gcc-14); raises `CouldNotRun` when it cannot be fetched."""
    programs = _programs(compiler)

    def build(draft: Path) -> dict[str, Any]:
        staging = draft / "staging"
        wanted = [f"{compiler}-x86-64-linux-gnu", *_PACKAGES]
        with cache.progress.task(f"{compiler}: download") as advance:
            packages = apt.download(wanted, staging, suite=SUITE, closure=True, advance=advance)
        with cache.progress.task(f"{compiler}: unpack"):
            tree = staging / "tree"
            unpack(packages, tree, cache)
            _take(tree, draft, programs.values())
            shutil.rmtree(staging)
        for name, program in programs.items():
            _write_script(draft / "bin" / name, program)
        return {"packages": {package.name: package.version for package in packages}}

    entry = cache.entry("toolchain", digest(_FORMAT, SUITE, compiler), f"{compiler} and make", build)
    return Toolchain(entry.path)


def _programs(compiler: str) -> dict[str, str]:
    """Give what is called, by the name under which it is: Debian's kernels ask for the long ones, gcc for `as`."""
    version = compiler.rpartition("-")[2]
    long = [f"{_TRIPLET}-{name}" for name in (compiler, *_BINUTILS)]
    return {
        **{name: f"usr/bin/{name}" for name in long},
        "as": f"usr/bin/{_TRIPLET}-as",
        "cc1": f"usr/libexec/gcc/{_TRIPLET}/{version}/cc1",
        "make": "usr/bin/make",
    }


def _take(tree: Path, draft: Path, programs: Iterable[str]) -> None:
    """Copy the programs, and all that they load: a tenth of what the packages hold."""
    wanted = [*programs, _LIBRARY, LOADER]
    for name in wanted:
        if not (tree / name).exists():
            raise CouldNotRun(f"compiler: no package brought {name}, without which no module can be built")
    for name in {*wanted, *map(str, elf.libraries([tree / name for name in wanted], tree))}:
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree / name, draft / name)


def _write_script(path: Path, program: str) -> None:
    # The draft is renamed into place later, so the script finds its folder when it runs.
    is_gcc = "-gcc-" in program
    argv = Prefix(Path("$here")).argv(program, name=f"$here/{program}" if is_gcc else "$0")
    argv += ["-B$here/bin/"] if is_gcc else []  # where it looks first for cc1 and as
    _write(path, "here=${0%/*}/..\nexec " + " ".join(f'"{word}"' for word in argv))


def _write(path: Path, commands: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{commands} "$@"\n', encoding="utf-8")
    path.chmod(0o755)


def _is_program(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_ELF)) == _ELF
