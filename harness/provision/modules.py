# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernel modules must be loaded, in which order, read from the modules themselves.

A kernel package ships no modules.dep: depmod(8) makes it at installation, reading every module, which takes many
seconds. The `depends=` and `softdep=` of modinfo(8) say the same, and only the modules that are wanted have to be read.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.errors import CouldNotRun, UsageError

_LIMIT = 256 * 2**20  # bytes; the largest module of a distribution, amdgpu, has a fifth of this
_FILE = re.compile(r".*/(?P<name>.+)\.ko(?:\.(?:gz|xz|zst))?")  # kernel/module/Kconfig, MODULE_COMPRESS_*
_PRE = re.compile(r"\bpre:(.*?)(?=\bpost:|$)")  # include/linux/module.h, MODULE_SOFTDEP: "pre: a b post: c"
_PLACES = ("lib/modules", "usr/lib/modules")  # Documentation/kbuild/modules.rst, INSTALL_MOD_PATH; hier(7), merged /usr


@dataclass(frozen=True)
class Closure:
    """What it takes to have some modules; names are spelt as in /proc/modules, with `_` for `-`."""

    files: tuple[Path, ...]  # in load order: each after all that it depends on
    builtin: frozenset[str]  # in the kernel image already
    missing: frozenset[str]  # asked for, or depended on, and nowhere in the tree


def canonical(name: str) -> str:
    """Give a module's name as the kernel spells it (scripts/Makefile.lib, name-fix): `-` and `_` are the same."""
    return name.replace("-", "_")


def content(path: Path) -> bytes:
    """Give the module in `path`, decompressed; raise `CouldNotRun` if it is corrupt or has more than 256 MiB."""
    try:
        with path.open("rb") as stream:
            data = _decompressed(stream.read(_LIMIT + 1), path.suffix)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise CouldNotRun(f"{path} cannot be read as a kernel module: {error}") from error
    if len(data) > _LIMIT:
        raise CouldNotRun(f"{path} has more than {_LIMIT // 2**20} MiB, which no kernel module has")
    return data


def find(directory: Path, release: str = "") -> ModuleTree:
    """Give the modules in `directory`: a tree with lib/modules or usr/lib/modules, or one RELEASE folder of these.

    `release` says which, as `uname -r` has it; without it there must be one only. A RELEASE folder that is `directory`
    itself is taken whatever its name. Raises `UsageError` when there is no such folder.
    """
    if _is_release(directory):
        return ModuleTree(directory, release or directory.resolve().name)
    folders = [folder for place in _PLACES for folder in (directory / place).glob("*") if _is_release(folder)]
    found = {folder.name: folder for folder in folders if release in {"", folder.name}}  # /lib may be /usr/lib
    if len(found) == 1:
        return ModuleTree(next(iter(found.values())), next(iter(found)))
    expected = " or ".join(f"{place}/{release or 'RELEASE'}" for place in _PLACES)
    there = ", ".join(sorted({folder.name for folder in folders})) or "no kernel's modules"
    raise UsageError(f"{directory}: expected {'one ' if not release else ''}{expected}; there is {there}")


@dataclass(frozen=True)
class ModuleTree:
    """The modules of one kernel, `release` in `uname -r`; `directory` is what holds `kernel/` and `modules.builtin`."""

    directory: Path
    release: str

    @cached_property
    def files(self) -> dict[str, Path]:
        """Each module's file by its name; as in depmod.d(5), one in `updates/` goes before its namesake elsewhere."""
        paths = [f"{folder}/{name}" for folder, _, names in os.walk(self.directory) for name in names]
        paths.sort(key=lambda path: (path.startswith(f"{self.directory}/updates/"), path))
        return {canonical(match["name"]): Path(path) for path in paths if (match := _FILE.fullmatch(path))}

    @cached_property
    def builtin(self) -> frozenset[str]:
        """The modules that are part of the kernel image (Documentation/kbuild/kbuild.rst, modules.builtin)."""
        listing = self.directory / "modules.builtin"
        lines = listing.read_text().split() if listing.is_file() else []
        return frozenset(canonical(Path(line).stem) for line in lines)

    def closure(self, names: Iterable[str]) -> Closure:
        """Give all that loading `names` takes, in modprobe(8)'s order: dependencies, `softdep=pre:`, then the module.

        Soft dependencies that are nowhere are left out. Raises `CouldNotRun` for a module that cannot be read.
        """
        files: list[Path] = []
        entered, builtin, missing = set[str](), set[str](), set[str]()

        def add(name: str, *, soft: bool = False) -> None:
            if name in self.builtin:
                builtin.add(name)
            elif name in self.files and name not in entered:
                entered.add(name)  # before its dependencies: soft ones may form a ring
                for other, other_soft in _needs(self.files[name]):
                    add(other, soft=other_soft)
                files.append(self.files[name])
            elif name not in self.files and not soft:  # a soft one may be absent, or an alias rather than a name
                missing.add(name)

        for name in names:
            add(canonical(name))
        return Closure(tuple(files), frozenset(builtin), frozenset(missing))


def _is_release(folder: Path) -> bool:
    return (folder / "kernel").is_dir() or (folder / "modules.builtin").is_file()


def _decompressed(packed: bytes, suffix: str) -> bytes:
    """Decompress, stopping soon after the limit: a small file must not fill the memory."""
    if suffix == ".gz":
        return gzip.open(io.BytesIO(packed)).read(_LIMIT + 1)
    if suffix == ".xz":
        return lzma.open(io.BytesIO(packed)).read(_LIMIT + 1)
    if suffix != ".zst":
        return packed
    if zstandard.frame_content_size(packed) > _LIMIT:  # decompress() heeds its own limit only where this is unknown
        raise zstandard.ZstdError("its header tells too large a size")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=_LIMIT)


def _needs(path: Path) -> list[tuple[str, bool]]:
    """Give what the module in `path` wants loaded before it, in order, and whether it can do without."""
    try:
        info = ELFFile(io.BytesIO(content(path))).get_section_by_name(".modinfo")
        strings = info.data().decode(errors="replace").split("\0") if info else []
    except (ELFError, ValueError, OverflowError) as error:
        raise CouldNotRun(f"{path} cannot be read as a kernel module: {error}") from error
    if not strings:
        raise CouldNotRun(f"{path} is no kernel module: it has no .modinfo")
    pairs = [item.partition("=")[::2] for item in strings]  # include/linux/moduleparam.h, __MODULE_INFO: TAG=VALUE
    hard = [name for tag, value in pairs if tag == "depends" for name in value.split(",") if name]
    soft = [name for tag, value in pairs if tag == "softdep" for run in _PRE.findall(value) for name in run.split()]
    return [(canonical(name), False) for name in hard] + [(canonical(name), True) for name in soft]
