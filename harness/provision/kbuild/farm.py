# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree to build from that costs no copy: links to the files of the source, real files where those would mislead make.

The source is never written to. make(1) compares times: it takes a file for changed only where that is newer than what
was built from it. So a file is a real one, with a time of its own, from the moment on when it became another, whatever
its date: a series changed it or no longer does, it came back, or the source's own was edited or replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CouldNotRun, UsageError

SOURCE = ".source"
"""A link in the farm to the source, which the other links lead through: so most are of less than 60 bytes, which ext4
keeps in the inode (Documentation/filesystems/ext4/ifork.rst).
"""
_BUILT_IN = (".config", "include/config", "include/generated")
"""What a build within the tree leaves there, on which Kbuild's `outputmakefile` refuses to build elsewhere."""

Stamp = tuple[int, int, int]
"""Size, time of change in nanoseconds, and inode of a file of the source."""


def files(tree: Path) -> frozenset[str]:
    """Give the paths of a source tree's files: in a git tree what git tracks or would, with uncommitted changes.

    Raises `CouldNotRun` where git fails.
    """
    if (tree / ".git").exists():
        command = ["git", "-C", str(tree), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, capture_output=True, env=without_git(), check=False)
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


@dataclass(frozen=True)
class Farm:
    """The tree, in `root`, and beside it what is known of the source's files when it was last laid."""

    root: Path

    @property
    def _memory(self) -> Path:
        return self.root.with_name(f"{self.root.name}.json")

    def lay(self, tree: Path, names: Iterable[str], changed: Mapping[str, Path | None]) -> None:
        """Make it show the files `names` of `tree`, with `changed` ones in their new form, or gone (None)."""
        gone = {name for name, copy in changed.items() if copy is None}
        wanted = {*names, *changed} - gone
        was_laid = self.root.exists()
        before = self._remembered()
        self.root.mkdir(parents=True, exist_ok=True)
        there = {name: is_link for name, is_link in _entries(str(self.root)) if name != SOURCE}
        self._remove(there.keys() - wanted)
        _point(self.root / SOURCE, tree)
        stamps = {name: stamp for name in wanted if (stamp := _stamp(f"{tree}/{name}")) is not None}
        # Of a farm that was laid before, what is not there may have been built from in another form.
        real = {*changed, *(name for name, is_link in there.items() if not is_link)} & wanted
        real |= wanted - there.keys() if was_laid else set()
        real |= {name for name, stamp in stamps.items() if before.get(name, stamp) != stamp}
        self._link(tree, sorted(wanted - there.keys() - real))
        for name in sorted(real):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            _place(changed.get(name) or tree / name, self.root / name)
        self._memory.write_text(json.dumps(stamps), encoding="utf-8")

    def _remembered(self) -> dict[str, Stamp]:
        """Give the stamps of the last laying; none where there was none, or it was cut short."""
        with suppress(OSError, ValueError, AttributeError, TypeError):
            known = json.loads(self._memory.read_text(encoding="utf-8"))
            return {name: (size, changed, inode) for name, (size, changed, inode) in known.items()}
        return {}

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files, and the folders that become empty: where one was, there may be a file to come."""
        for name in names:
            (self.root / name).unlink()
            folder = (self.root / name).parent
            while folder != self.root and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent

    def _link(self, tree: Path, names: Iterable[str]) -> None:
        made: set[str] = set()
        for name in names:  # a folder, and at once what is in it: half the work for ext4
            folder, _, _ = name.rpartition("/")
            if folder not in made:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
                made.add(folder)
            target = _own_target(f"{tree}/{name}") or f"{'../' * name.count('/')}{SOURCE}/{name}"
            os.symlink(target, f"{self.root}/{name}")  # noqa: PTH211 - a hundred thousand of them


def check(names: frozenset[str], changed: Iterable[str], tree: Path) -> None:
    """Refuse changes that would not land where they are named: raises `UsageError`, as `git am` does."""
    for name in changed:
        parts = Path(name).parts
        above = ["/".join(parts[:end]) for end in range(1, len(parts))]
        if parts[0] == SOURCE or any(one in names and (tree / one).is_symlink() for one in above):
            raise UsageError(f"the series changes {name}, which is beyond a symbolic link")


def _own_target(path: str) -> str | None:
    """Give where a link of the source leads, if that is within it: the same link then leads to the same file here."""
    try:
        target = os.readlink(path)  # noqa: PTH115 - of every file
    except OSError:
        return None
    return None if os.path.isabs(target) else target  # noqa: PTH117 - of every file


def _point(link: Path, target: Path) -> None:
    if not link.is_symlink() or link.readlink() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - of every file
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _place(content: Path, target: Path) -> None:
    """Make `target` a real file, or a link, with this content and mode; its time changes only with them."""
    if content.is_symlink():
        if not target.is_symlink() or target.readlink() != content.readlink():
            target.unlink(missing_ok=True)
            target.symlink_to(content.readlink())
        return
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


def without_git() -> dict[str, str]:
    """Give the environment less what a git around us, such as one that runs a hook, says of its own repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
