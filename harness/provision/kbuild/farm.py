# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree to build from that costs no copy: links to the files of the source, real files where a series changed them.

The source is never written to, and a change in it is seen at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness.errors import CouldNotRun

_BUILT_IN = (".config", "include/config", "include/generated")
"""What a build within the tree leaves there, on which Kbuild's `outputmakefile` refuses to build elsewhere."""


def files(tree: Path) -> frozenset[str]:
    """Give the paths of a source tree's files: in a git tree what git tracks or would, with uncommitted changes.

    Raises `CouldNotRun` where git fails.
    """
    if (tree / ".git").exists():
        command = ["git", "-C", str(tree), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            why = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise CouldNotRun(f"source {tree}: git does not list its files: {why}")
        listed = os.fsdecode(done.stdout).split("\0")
        return frozenset(name for name in listed if name and os.path.lexists(tree / name))
    return frozenset(_walked(tree))


def dirt(tree: Path) -> str | None:
    """Name what an earlier build left within a plain tree, None for a clean one."""
    if (tree / ".git").exists():
        return None  # git knows that these are none of its files
    return next((name for name in _BUILT_IN if (tree / name).exists()), None)


def lay(farm: Path, tree: Path, names: Iterable[str], changed: Mapping[str, Path | None]) -> None:
    """Make `farm` show the files `names` of `tree`, with `changed` ones in their new form, or gone.

    A file that has been changed once stays a real file, and is written only when its content becomes another: make(1)
    compares times, and a link to an old original would look older than what was built from the changed one.
    """
    farm.mkdir(parents=True, exist_ok=True)
    gone = {name for name, copy in changed.items() if copy is None}
    wanted = {*names, *changed} - gone
    there = {name: (farm / name).is_symlink() for name in _walked(farm)}
    for name in there.keys() - wanted:
        (farm / name).unlink()
    folders: set[str] = set()
    for name in wanted:
        copy = changed.get(name)
        if there.get(name) and copy is None:
            continue
        folder = os.path.dirname(name)  # noqa: PTH120 - a hundred thousand paths: as texts, in a third of the time
        if folder not in folders:
            (farm / folder).mkdir(parents=True, exist_ok=True)
            folders.add(folder)
        if name not in there and copy is None:
            os.symlink(tree / name, farm / name)  # noqa: PTH211 - see above
        else:
            _place(copy or tree / name, farm / name)


def _place(content: Path, target: Path) -> None:
    """Make `target` a real file of this content and mode; its time changes only with them."""
    if target.is_symlink():
        target.unlink()
    elif target.exists() and _same(content, target):
        return
    shutil.copyfile(content, target)
    shutil.copymode(content, target)


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes() and one.stat().st_mode == other.stat().st_mode


def _walked(folder: Path) -> Iterator[str]:
    """Give all paths below a folder that are no folders themselves; links to folders are not followed."""
    below = len(str(folder)) + 1
    for root, folders, names in os.walk(folder):
        prefix = f"{root[below:]}/" if len(root) > below else ""
        yield from (f"{prefix}{name}" for name in names)
        yield from (f"{prefix}{name}" for name in folders if os.path.islink(f"{root}/{name}"))  # noqa: PTH114 - see above
