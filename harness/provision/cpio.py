# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes an initramfs: a "newc" cpio archive that is the same, byte for byte, whenever its entries are the same.

The format is that of Documentation/driver-api/early-userspace/buffer-format.rst, read by init/initramfs.c.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

_MAGIC = b"070701"  # buffer-format.rst, c_magic of "newc": no checksum
_TRAILER = "TRAILER!!!"  # buffer-format.rst, cpio_trailer
_ALIGN = 4  # buffer-format.rst, ALGN(4): before the data and before the next header
_BLOCK = 512  # usr/gen_init_cpio.c, cpio_trailer(): the whole archive is padded to this
_LARGEST = 0xFFFF_FFFF  # buffer-format.rst: c_filesize has eight hexadecimal digits


@dataclass(frozen=True)
class Entry:
    """One file of the archive.

    `name` is relative to the root, without a leading slash; `mode` holds the type (S_IF*) and the permissions; `data`
    is what a regular file holds, or where a symbolic link points; `rdev` is the major and minor number of a device.
    Raises `ValueError` for a name that is not plain and relative, and for what the format cannot express.
    """

    name: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        path = PurePosixPath(self.name)
        if not path.parts or path.is_absolute() or ".." in path.parts or str(path) != self.name or "\0" in self.name:
            raise ValueError(f"{self.name!r} is not a plain name relative to the root")
        if self.name == _TRAILER:
            raise ValueError(f"{self.name!r} would end the archive")
        if not stat.S_IFMT(self.mode):
            raise ValueError(f"{self.name}: mode {self.mode:#o} says no type of file")
        if len(self.data) > _LARGEST:
            raise ValueError(f"{self.name}: {len(self.data)} bytes are more than newc can hold")


def directory(name: str, mode: int = 0o755) -> Entry:
    """Make a directory with the permissions `mode`."""
    return Entry(name, stat.S_IFDIR | mode)


def file(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """Make a regular file that holds `data`, with the permissions `mode`."""
    return Entry(name, stat.S_IFREG | mode, data)


def symlink(name: str, target: str) -> Entry:
    """Make a symbolic link; `target` is kept as it is."""
    return Entry(name, stat.S_IFLNK | 0o777, os.fsencode(target))


def char_device(name: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """Make a character device node with the permissions `mode`."""
    return Entry(name, stat.S_IFCHR | mode, rdev=(major, minor))


def write(stream: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write `entries` to `stream` as a whole archive, sorted by name, so that every directory precedes what it holds.

    All belongs to root and dates from the epoch. Directories that `entries` only implies are made with mode 0755.
    Raises `ValueError`, before anything is written, for a name given twice, and for an entry below something that is
    no directory, which the kernel might skip without a word.
    """
    written = 0
    for inode, entry in enumerate(_complete(entries), start=1):
        written += _write_record(stream, entry.name, entry.data, inode=inode, mode=entry.mode, rdev=entry.rdev)
    written += _write_record(stream, _TRAILER)
    stream.write(bytes(-written % _BLOCK))


def _complete(entries: Iterable[Entry]) -> list[Entry]:
    """Give `entries` with their parents, sorted by name: a name sorts after the names it begins with."""
    named: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in named:
            raise ValueError(f"{entry.name} is given twice")
        named[entry.name] = entry
    for name in list(named):
        for parent in map(str, list(PurePosixPath(name).parents)[:-1]):  # the last one is the root itself
            if not stat.S_ISDIR(named.setdefault(parent, directory(parent)).mode):
                raise ValueError(f"{name} lies below {parent}, which is no directory")
    return [named[name] for name in sorted(named)]


def _write_record(
    stream: BinaryIO, name: str, data: bytes = b"", *, inode: int = 0, mode: int = 0, rdev: tuple[int, int] = (0, 0)
) -> int:
    """Write a header with its name, and the data, each padded; give how many bytes that took."""
    path = os.fsencode(name) + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1  # init/initramfs.c, maybe_link(): from two on, a regular file is a hard link
    # buffer-format.rst: ino, mode, uid, gid, nlink, mtime, filesize, maj, min, rmaj, rmin, namesize, chksum
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, *rdev, len(path), 0)
    header = _MAGIC + b"".join(b"%08X" % field for field in fields) + path
    for part in (header, data):
        stream.write(part)
        stream.write(bytes(-len(part) % _ALIGN))
    return sum(len(part) + -len(part) % _ALIGN for part in (header, data))
