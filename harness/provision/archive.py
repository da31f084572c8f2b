# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacking the archives of source packages."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from harness.errors import CouldNotRun


def untar(archive: Path, to: Path, *, strip: int = 0) -> None:
    """Unpack a .tar.xz with tar alone: the machine need have no xz. `strip`: leading folders that names lose.

    Raises `CouldNotRun` where it cannot be unpacked.
    """
    command = ["tar", "-x", "--no-same-owner", f"--strip-components={strip}", "-C", str(to)]
    with lzma.open(archive) as plain, subprocess.Popen(command, stdin=subprocess.PIPE) as tar:
        assert tar.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # tar has ended, and has said why
            shutil.copyfileobj(plain, tar.stdin, 1 << 20)
            tar.stdin.close()
    if tar.returncode != 0:
        raise CouldNotRun(f"{archive.name} cannot be unpacked to {to}: tar ended with {tar.returncode}")
