# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to QEMU's source: the distribution's, and ours, which must fit trees of several versions."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.errors import CouldNotRun
from harness.text import printable


def apply_series(tree: Path, folder: Path) -> None:
    """Apply the patches that `folder`/series names; raises `CouldNotRun`."""
    for line in (folder / "series").read_text(encoding="utf-8").splitlines():
        name = line.partition("#")[0].strip()
        if name:
            _patch(tree, folder / name)


def apply_ours(tree: Path, folder: Path) -> None:
    """Apply the patches in `folder`, but those whose change the tree has already; raises `CouldNotRun`."""
    for file in sorted(folder.glob("*.patch")):
        if _run(tree, file, "--dry-run", "--reverse", "--force").returncode != 0:
            _patch(tree, file)


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
