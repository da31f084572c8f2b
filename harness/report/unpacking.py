# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacking a `.tar.zst` that somebody else has made: regular files only, in one folder, of bounded size."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import zstandard

from harness.errors import UsageError

_LARGEST = 2 * 1024**3
"""Bytes that it may unpack to: a vmlinux with debug information has 400 MB."""
_MOST_FILES = 50_000


def unpack(packed: BinaryIO, to: Path, what: str) -> None:
    """Unpack into the folder `to`; links, and names that lead elsewhere, are left out. Raises `UsageError`."""
    try:
        with zstandard.open(packed) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            left = _LARGEST
            for count, member in enumerate(archive, 1):
                left -= member.size
                if left < 0 or count > _MOST_FILES:
                    raise UsageError(f"{what}: unpacks to more than {_LARGEST >> 30} GiB or {_MOST_FILES} files")
                _extract(archive, member, to)
    except (OSError, tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise UsageError(f"{what} is no archive that can be read: {error}") from error


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    name = PurePosixPath(member.name)
    content = archive.extractfile(member) if member.isreg() else None
    if content is None or name.is_absolute() or ".." in name.parts:
        return
    target = to / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        shutil.copyfileobj(content, stream)
