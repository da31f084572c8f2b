# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to QEMU's source: the distribution's, and ours, which must fit trees of several versions."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from harness.errors import CouldNotRun
from harness.text import printable

_ONLY_WITH = re.compile(r"^Only-with: (?P<file>\S+): (?P<text>.+)$", re.MULTILINE)


def apply_series(tree: Path, folder: Path) -> None:
    """Apply the patches that `folder`/series names; raises `CouldNotRun`."""
    for line in (folder / "series").read_text(encoding="utf-8").splitlines():
        name = line.partition("#")[0].strip()
        if name:
            _patch(tree, folder / name)


def apply_ours(tree: Path, folder: Path) -> None:
    """Apply the patches in `folder` that the tree lacks; raises `CouldNotRun`.

    A patch whose change is there already is passed over; so is one with a line `Only-with: FILE: TEXT` where that file
    has no such text: what the patch mends is not in this version.
    """
    for file in sorted(folder.glob("*.patch")):
        if _is_for(tree, file) and _run(tree, file, "--dry-run", "--reverse", "--force").returncode != 0:
            _patch(tree, file)


def _is_for(tree: Path, file: Path) -> bool:
    head, _, _ = file.read_text(encoding="utf-8").partition("\n---\n")
    wanted = _ONLY_WITH.search(head)
    if wanted is None:
        return True
    try:
        return wanted["text"] in (tree / wanted["file"]).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False


def _patch(tree: Path, file: Path) -> None:
    done = _run(tree, file, "--forward", "--fuzz=3", "--no-backup-if-mismatch")
    if done.returncode != 0:
        why = [line for line in printable(done.stdout).splitlines() if "FAILED" in line or "can't find" in line]
        raise CouldNotRun(f"{file.name} does not apply to this QEMU: {'; '.join(why) or 'patch(1) does not say why'}")


def _run(tree: Path, file: Path, *how: str) -> subprocess.CompletedProcess[str]:
    command = ["patch", "--strip=1", "--silent", f"--directory={tree}", f"--input={file.absolute()}", *how]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False,
    )  # fmt: skip
