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


_SOURCE = ".source"
"""A link in the farm to the source, which the other links lead through: so most are of less than 60 bytes, which ext4
keeps in the inode (Documentation/filesystems/ext4/ifork.rst), and take a tenth of the time.
"""


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
    return frozenset(name for name, _ in _entries(str(tree)))


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
    gone = {name for name, copy in changed.items() if copy is None}
    wanted = {*names, *changed} - gone
    farm.mkdir(parents=True, exist_ok=True)
    there = {name: is_link for name, is_link in _entries(str(farm)) if name != _SOURCE}
    for name in there.keys() - wanted:
        (farm / name).unlink()
    _point(farm / _SOURCE, tree)
    folders: set[str] = set()
    for name in sorted(wanted - there.keys()):  # a folder, and at once what is in it: half the work for ext4
        folder, _, _ = name.rpartition("/")
        if folder not in folders:
            (farm / folder).mkdir(parents=True, exist_ok=True)
            folders.add(folder)
        if name not in changed:
            os.symlink(f"{'../' * name.count('/')}{_SOURCE}/{name}", f"{farm}/{name}")  # noqa: PTH211 - 100,000 of them
    for name in wanted:
        copy = changed.get(name)
        if copy is not None or there.get(name) is False:
            _place(copy or tree / name, farm / name)


def _point(link: Path, target: Path) -> None:
    if not link.is_symlink() or link.readlink() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)


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


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """Give all paths below a folder that are no folders, and whether each is a link, which is not followed."""
    below = len(folder) + 1
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry.path[below:], entry.is_symlink()
