# SPDX-License-Identifier: GPL-2.0-or-later
"""Which shared libraries a program needs, found in a directory tree that need not be the running system.

The search is that of ld.so(8), less LD_LIBRARY_PATH and ld.so.cache. What a program opens with dlopen(3) cannot be
seen: name such libraries as programs of their own.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from harness.errors import CouldNotRun

_MAGIC = b"\x7fELF"  # elf(5), e_ident
_MAX_LINKS = 40  # include/linux/namei.h, MAXSYMLINKS
# ld.so(8), the default path, with the multiarch folder of Debian first and that of Fedora second.
_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib/x86_64-linux-gnu", "/lib64", "/lib")
# hier(7) in a merged-/usr system: these are links to /usr/NAME, made at installation and so in no package.
_MERGED = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32"})


@dataclass(frozen=True)
class _Needs:
    """What one ELF file asks for: `names` of libraries or their paths, and the `folders` it wants searched first."""

    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def libraries(programs: Iterable[Path], root: Path) -> tuple[Path, ...]:
    """Give all that the dynamic ELF files `programs` load: libraries, their libraries, and the ELF interpreter.

    The paths are relative to `root`, sorted, and include each symbolic link on the way. Links are followed as a process
    would whose root directory is `root`, so nothing outside is ever reached. The links of a merged /usr, such as
    `lib64 -> usr/lib64`, are understood whether the tree has them or not, and are not part of the answer. Scripts and
    static programs need nothing. Raises `CouldNotRun` for a program that is not there, a library that is nowhere in
    `root`, and an ELF file that cannot be read.
    """
    found: set[Path] = set()
    read = functools.cache(_read)
    for program in programs:
        found.update(_closure(program, root, read))
    return tuple(sorted(found))


def _closure(program: Path, root: Path, read: Callable[[Path, Path], _Needs]) -> set[Path]:
    """Give what `program` loads, breadth first like ld.so, which takes a name that is loaded already from anywhere."""
    loaded: dict[str, tuple[Path, ...]] = {}
    start = _located(program, root)
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        needs = read(root / here, here.parent)
        for name in needs.names:
            if name in loaded:
                continue
            loaded[name] = _search(root, name, needs.folders)
            if not loaded[name]:
                through = "" if here == start else f" (through {here.name})"
                raise CouldNotRun(f"{program} needs {name}{through}, which is nowhere in {root}")
            waiting.append(loaded[name][-1])
    return {path for steps in loaded.values() for path in steps}


def _located(program: Path, root: Path) -> Path:
    """Give where `program` really is: relative to `root` when it lies inside, else absolute."""
    if not program.is_relative_to(root):
        return program.absolute()
    steps = _steps(root, str(program.relative_to(root)))
    if not steps:
        raise CouldNotRun(f"{program}: there is no such program in {root}")
    return steps[-1]


def _read(file: Path, origin: Path) -> _Needs:
    """Read the dynamic section of `file`; `origin` is the folder that $ORIGIN stands for, relative to the root."""
    try:
        with file.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                return _Needs()
            elf = ELFFile(stream)
            segments = list(elf.iter_segments())
            names = [segment.get_interp_name() for segment in segments if isinstance(segment, InterpSegment)]
            dynamic = [segment for segment in segments if isinstance(segment, DynamicSegment)]
            tags: list[Any] = [tag for segment in dynamic for tag in segment.iter_tags()]
            names += [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"]
            paths = [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
            paths = paths or [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
    except (OSError, ELFError, ValueError, OverflowError) as error:
        raise CouldNotRun(f"{file} cannot be read as an ELF file: {error}") from error
    folders = [folder for path in paths for folder in path.split(":") if folder]
    expanded = (folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", f"/{origin}") for folder in folders)
    return _Needs(tuple(names), tuple(expanded))


def _search(root: Path, name: str, folders: tuple[str, ...]) -> tuple[Path, ...]:
    """Give the links to, and last the file of, the library or path `name`; nothing when it is nowhere."""
    places = [name] if "/" in name else [f"{folder}/{name}" for folder in (*folders, *_FOLDERS)]
    return next(filter(None, (_steps(root, place) for place in places)), ())


def _steps(root: Path, path: str) -> tuple[Path, ...]:
    """Follow `path` below `root` as after chroot(2): the links met, then the file; nothing when no file is there."""
    links: list[Path] = []
    here = Path()
    ahead = list(reversed(Path(path).parts))
    while ahead:
        part = ahead.pop()
        if part.startswith("/"):
            here = Path()
        elif part == "..":
            here = here.parent
        elif not here.parts and _is_merged(root, part):
            here = Path("usr", part)
        elif (root / here / part).is_symlink():
            links.append(here / part)
            if len(links) > _MAX_LINKS:
                return ()
            ahead.extend(reversed((root / here / part).readlink().parts))
        else:
            here = here / part
    return (*links, here) if (root / here).is_file() else ()


def _is_merged(root: Path, name: str) -> bool:
    """Whether /`name` of this tree means /usr/`name`: it is a link to that, or is missing."""
    top = root / name
    if name not in _MERGED:
        return False
    return top.readlink().parts[-2:] == ("usr", name) if top.is_symlink() else not top.exists()
