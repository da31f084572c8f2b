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
        with (
            zstandard.open(packed) as stream,
            # A stream's read() is all that tarfile asks for, though its types say more.
            tarfile.open(fileobj=_Bounded(stream), mode="r|") as archive,  # type: ignore[call-overload]
        ):
            for count, member in enumerate(archive, 1):
                if count > _MOST_FILES:
                    raise _TooMuch  # noqa: TRY301 - the same as too many bytes
                _extract(archive, member, to)
    except _TooMuch as error:
        raise UsageError(f"{what}: unpacks to more than {_LARGEST >> 30} GiB or {_MOST_FILES} files") from error
    except (OSError, tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, OverflowError) as error:
        raise UsageError(f"{what} is no archive that can be read: {error}") from error


class _TooMuch(Exception):
    """There is no end to it."""


class _Bounded:
    """What is read of an archive, up to a limit: its headers tell sizes as they like."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = _LARGEST

    def read(self, size: int) -> bytes:
        """Give so many bytes at most."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _TooMuch
        return data


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    name = PurePosixPath(member.name)
    content = archive.extractfile(member) if member.isreg() and not member.issparse() and member.size >= 0 else None
    if content is None or name.is_absolute() or ".." in name.parts:
        return
    target = to / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        shutil.copyfileobj(content, stream)
