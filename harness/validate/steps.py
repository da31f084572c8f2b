# SPDX-License-Identifier: GPL-2.0-or-later
"""A series, step by step: the tree without it, and after each of its patches."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.provision.cache import Cache, digest
from harness.provision.kbuild import series, source
from harness.provision.kbuild.arch import Arch
from harness.provision.kbuild.farm import without_git
from harness.provision.kbuild.order import Order
from harness.provision.kbuild.series import Patch
from harness.text import printable

_BASE_COMMIT = re.compile(rb"^base-commit: ([0-9a-f]{12,40})\s*$", re.MULTILINE)
"""The trailer that `git format-patch --base` writes into the last mail, or the cover letter."""
_RANGE = re.compile(r"^[^\s.]\S*\.\.\.?\S+$")


@dataclass(frozen=True)
class Step:
    """The tree after the first `number` patches; 0 is the base."""

    number: int
    subject: str
    order: Order
    files: tuple[str, ...]
    """What the step's own patch touches."""
    key: str
    """What tells it from all others: the base, and the patches so far. Series that begin alike share their kernels."""

    @property
    def title(self) -> str:
        """What the step is called: `base`, `2: PCI: ...`."""
        return f"{self.number}: {self.subject}" if self.number else "base"

    def built_as(self, fragments: Sequence[str], arch: Arch | None = None) -> Order:
        """Give what is to be built in one configuration, and for another architecture."""
        return Order(self.order.source, self.order.series, tuple(fragments), arch or self.order.arch)


@dataclass(frozen=True)
class Series:
    """What is validated: its steps, and what is to be told of it."""

    steps: tuple[Step, ...]
    note: str = ""

    @property
    def key(self) -> str:
        """What tells it from others."""
        return self.steps[-1].key


def read(cache: Cache, tree: str, given: str, base: str | None, scratch: Path) -> Series:
    """Take a series apart: a file or folder of patches, or a range of commits in `tree`.

    `base`, or else a `base-commit:` that the tree has, is the revision that the patches are for, and else the tree as
    it stands. What the kernels are built from goes into `scratch` and the cache. Raises `UsageError`.
    """
    patches = [*_patches(tree, given, scratch)]
    revision, note = _base(tree, given, base)
    place = tree if revision is None else str(source.exported(cache, Path(tree), revision))
    folder = scratch / "patches"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:04}.patch" for number in range(1, len(patches) + 1)]
    diffs = [patch.diff.rstrip(b"\n") + b"\n" for patch in patches]  # between the mails of an mbox there are more
    for file, diff in zip(files, diffs, strict=True):
        file.write_bytes(diff)
    state = revision or source.state(Path(tree)) if not tree.startswith(source.DEBIAN) else tree
    keys = [digest(place, state, [one.hex() for one in diffs[:number]])[:12] for number in range(len(diffs) + 1)]
    steps = [Step(0, "", Order(place), (), keys[0])]
    for number, patch in enumerate(patches, 1):
        subject = re.sub(r"^\[.*?\]\s*", "", patch.subject) or patch.file.name
        touched = tuple(sorted(series.files(patch)))
        steps.append(Step(number, printable(subject), Order(place, tuple(files[:number])), touched, keys[number]))
    return Series(tuple(steps), note)


def _patches(tree: str, given: str, scratch: Path) -> list[Patch]:
    if Path(given).exists() or not _RANGE.match(given):
        return series.read(Path(given))
    if tree.startswith(source.DEBIAN):
        raise UsageError(f"--series {given}: a range of commits needs a git tree for --source, not {tree}")
    if "..." in given:
        raise UsageError(
            f"--series {given}: write FIRST..LAST, with two dots: the patches are those that LAST has more"
        )
    if source.git(Path(tree), "rev-list", "--merges", "--max-count=1", "--end-of-options", given):
        raise UsageError(f"--series {given}: there are merges in that range, which are no patches; give one without")
    command = ["git", "-C", tree, "format-patch", "--stdout", "--no-signature", "--end-of-options", given]
    done = subprocess.run(command, env=without_git(), capture_output=True, check=False)
    if done.returncode != 0:
        why = printable(done.stderr.decode(errors="replace")).strip().partition("\n")[0]
        raise UsageError(f"--series {given}: git finds no such commits in {tree}: {why}")
    if not done.stdout:
        raise UsageError(f"--series {given}: there is no commit in that range")
    file = scratch / "range.mbox"
    file.write_bytes(done.stdout)
    return series.read(file)


def _base(tree: str, given: str, base: str | None) -> tuple[str | None, str]:
    """Give the commit to build on, and what is to be told of it; None for the tree as it stands."""
    is_git = not tree.startswith(source.DEBIAN) and (Path(tree) / ".git").exists()
    if base is not None and not is_git:
        raise UsageError(f"--base {base}: --source {tree} is no git tree, which could be at another revision")
    if base is not None:
        return source.commit(Path(tree), base, "--base"), ""
    if is_git and not Path(given).exists() and ".." in given:
        first, _, last = given.partition("..")
        ends = [source.commit(Path(tree), one or "HEAD", "--series") for one in (first, last)]
        forked = source.git(Path(tree), "merge-base", *ends)
        if not forked:
            raise UsageError(f"--series {given}: {first} and {last} have no commit in common")
        return forked, ""
    # The trailer may stand in a cover letter, which is no patch.
    files = [path for path in Path(given).iterdir() if path.is_file()] if Path(given).is_dir() else [Path(given)]
    wanted = {
        match[1].decode() for file in files if file.is_file() for match in _BASE_COMMIT.finditer(file.read_bytes())
    }
    if not wanted:
        return None, ""
    named = min(wanted)
    if not is_git:
        return None, f"the series is for commit {named}, and {tree} is no git tree: it is taken as it stands"
    try:
        return source.commit(Path(tree), named, "base-commit"), ""
    except UsageError:
        return None, f"the series is for commit {named}, which {tree} does not have: the tree is taken as it stands"
