# SPDX-License-Identifier: GPL-2.0-or-later
"""The event descriptors by which a client is told of MSI-X vectors (VFIO_DEVICE_SET_IRQS, linux/vfio.h)."""

from __future__ import annotations

import errno
import os
import struct
import threading

from harness.device.vfio_user.channel import close_all
from harness.device.vfio_user.wire import Refused

INTX, MSI, MSIX, ERR, REQ = range(5)
KINDS = 5
"""Kinds of interrupts of a PCI device (VFIO_PCI_NUM_IRQS); only MSI-X is served."""
INFO_EVENTFD, INFO_NORESIZE = 1, 8
_NONE, _BOOL, _EVENTFD = 1, 2, 4
_MASK, _UNMASK, _TRIGGER = 8, 16, 32
_EVENT = struct.pack("<Q", 1)
_FORMS = (_NONE, _BOOL, _EVENTFD)
_ACTIONS = (_MASK, _UNMASK, _TRIGGER)


class Vectors:
    """The vectors of one client: to each belongs an event descriptor, or none. Masked ones are not raised.

    A lock keeps a descriptor from being closed, and its number used anew, while another thread writes to it.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._fds: dict[int, int] = {}
        self._masked: set[int] = set()
        self._lock = threading.RLock()

    def set(self, flags: int, index: int, start: int, count: int, data: bytes, fds: list[int]) -> None:
        """Do what a SET_IRQS message says, and take its descriptors from `fds`. Raises `Refused`."""
        form, action = flags & sum(_FORMS), flags & sum(_ACTIONS)
        if flags != form | action or form not in _FORMS or action not in _ACTIONS:
            raise Refused(errno.EINVAL, f"SET_IRQS with flags {flags:#x}")
        if index != MSIX:
            raise Refused(errno.EINVAL, f"SET_IRQS for interrupts of kind {index}: there are none")
        if start + count > self.count:
            raise Refused(errno.EINVAL, f"SET_IRQS for vectors {start} to {start + count}: there are {self.count}")
        if form == _BOOL and len(data) < count:
            raise Refused(errno.EINVAL, f"SET_IRQS for {count} vectors with {len(data)} bytes")
        if form == _EVENTFD and (action != _TRIGGER or len(fds) not in (0, count)):
            raise Refused(errno.EINVAL, f"SET_IRQS for {count} vectors with {len(fds)} event descriptors")
        vectors = range(start, start + count)
        with self._lock:
            if form == _EVENTFD:
                self._assign(vectors, fds)
            elif action == _TRIGGER and form == _NONE and count == 0:
                self.clear()
            else:
                self._act(action, [v for n, v in enumerate(vectors) if form == _NONE or data[n]])

    def signal(self, vector: int) -> bool:
        """Raise a vector; False where it is masked or the client awaits none."""
        with self._lock:
            fd = self._fds.get(vector)
            if fd is None or vector in self._masked:
                return False
            try:
                os.write(fd, _EVENT)
            except BlockingIOError:
                return True  # it has been raised 2^64-2 times and nobody looked
            except OSError:
                return False  # no event descriptor, or one that nobody can be told by
            return True

    def clear(self) -> None:
        """Let go of all descriptors."""
        with self._lock:
            gone = list(self._fds.values())
            self._fds.clear()
            self._masked.clear()
            close_all(gone)

    def _assign(self, vectors: range, fds: list[int]) -> None:
        try:
            for event in fds:
                os.set_blocking(event, False)
        except OSError as error:
            raise Refused(error.errno or errno.EBADF, f"SET_IRQS with what is no event: {error.strerror}") from error
        taken: list[int | None] = [*fds] or [None] * len(vectors)
        fds.clear()
        for vector, fd in zip(vectors, taken, strict=True):
            old = self._fds.pop(vector, None)
            if old is not None:
                os.close(old)
            if fd is not None:
                self._fds[vector] = fd

    def _act(self, action: int, vectors: list[int]) -> None:
        if action == _MASK:
            self._masked.update(vectors)
        elif action == _UNMASK:
            self._masked.difference_update(vectors)
        else:
            for vector in vectors:
                self.signal(vector)
