# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory that a client lets the device reach: ranges of bus addresses, some with a file behind them."""

from __future__ import annotations

import bisect
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.device.device import DmaError
from harness.device.vfio_user import wire
from harness.device.vfio_user.wire import Refused

_READABLE, _WRITABLE = 1, 2
_END = 1 << 64


@dataclass(frozen=True)
class Range:
    """Bus addresses from `start` to `end`. With a file descriptor they are bytes of that file, from `offset` on."""

    start: int
    end: int
    flags: int
    fd: int | None
    offset: int

    def check(self, *, write: bool) -> None:
        """Raise `DmaError` where the client does not allow this."""
        if not self.flags & (_WRITABLE if write else _READABLE):
            raise DmaError(f"memory at {self.start:#x} is mapped without leave to {'write' if write else 'read'}")


class Memory:
    """All ranges of one client, none overlapping another. Used by the thread that receives, and by those that do DMA.

    Files are read and written, not mapped: a client that shortens one later gives an error then, not a SIGBUS. A lock
    keeps a file from being closed, and its descriptor's number used anew, while another thread reads or writes it.
    """

    def __init__(self) -> None:
        self._ranges: list[Range] = []
        self._lock = threading.Lock()

    def map(self, start: int, size: int, flags: int, fd: int | None, offset: int) -> None:
        """Take a new range, and its descriptor. Raises `Refused`, and then the descriptor stays the caller's."""
        if size == 0 or start + size > _END or flags & ~(_READABLE | _WRITABLE):
            raise Refused(errno.EINVAL, f"DMA_MAP of {size:#x} bytes at {start:#x}, flags {flags:#x}")
        if fd is not None and (offset + size > _END >> 1 or not stat.S_ISREG(os.fstat(fd).st_mode)):
            # What is no file may keep a reader waiting for ever.
            raise Refused(errno.EINVAL, f"DMA_MAP of what is no file, or has no offset {offset:#x}")
        if len(self._ranges) >= wire.MAX_DMA_MAPS:
            raise Refused(errno.ENOSPC, f"more than {wire.MAX_DMA_MAPS} ranges")
        at = bisect.bisect_left(self._ranges, start, key=_start)
        before, after = self._ranges[at - 1 : at], self._ranges[at : at + 1]
        if any(one.end > start for one in before) or any(one.start < start + size for one in after):
            raise Refused(errno.EEXIST, f"DMA_MAP at {start:#x} over a range that is mapped")
        # A new list, so that a thread that does DMA goes on with the one it has.
        self._ranges = [*self._ranges[:at], Range(start, start + size, flags, fd, offset), *self._ranges[at:]]

    def unmap(self, start: int, size: int) -> None:
        """Let go of every range that lies within the named one; there need be none.

        With an emulated IOMMU, QEMU unmaps whole spaces of which it has mapped nothing.
        """
        self._drop(lambda one: start <= one.start and one.end <= start + size)

    def clear(self) -> None:
        """Let go of all ranges."""
        self._drop(lambda _: True)

    def pieces(self, address: int, count: int, *, write: bool) -> Iterator[tuple[Range, int, int]]:
        """Cut bytes at `address` into parts that lie in one range each. Raises `DmaError` for what is not mapped."""
        ranges = self._ranges
        while count:
            at = bisect.bisect_right(ranges, address, key=_start) - 1
            if at < 0 or ranges[at].end <= address:
                raise DmaError(f"nothing is mapped at {address:#x}")
            ranges[at].check(write=write)
            part = min(count, ranges[at].end - address)
            yield ranges[at], address, part
            address, count = address + part, count - part

    def read_file(self, piece: Range, address: int, count: int) -> bytes:
        """Read from the file behind a range. Raises `DmaError`."""
        with self._open(piece) as fd:
            data = os.pread(fd, count, piece.offset + address - piece.start)
        if len(data) < count:
            raise DmaError(f"the memory file ends before {address + count:#x}")
        return data

    def write_file(self, piece: Range, address: int, data: bytes) -> None:
        """Write to the file behind a range. Raises `DmaError`."""
        place = piece.offset + address - piece.start
        with self._open(piece) as fd:
            fits = place + len(data) <= os.fstat(fd).st_size  # else a write would make it longer
            written = os.pwrite(fd, data, place) if fits else 0
        if written < len(data):
            raise DmaError(f"the memory file ends before {address + len(data):#x}")

    @contextmanager
    def _open(self, piece: Range) -> Iterator[int]:
        with self._lock:
            if piece.fd is None or not any(one is piece for one in self._ranges):
                raise DmaError(f"memory at {piece.start:#x} is mapped no more")
            try:
                yield piece.fd
            except OSError as error:
                raise DmaError(f"the memory file at {piece.start:#x}: {error.strerror}") from error

    def _drop(self, wanted: Callable[[Range], bool]) -> None:
        with self._lock:
            gone = [one for one in self._ranges if wanted(one)]
            if gone:
                self._ranges = [one for one in self._ranges if not wanted(one)]
            for one in gone:
                if one.fd is not None:
                    os.close(one.fd)


def _start(one: Range) -> int:
    return one.start
