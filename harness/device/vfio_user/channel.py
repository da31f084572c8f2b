# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to a client: whole messages in and out, with the file descriptors that come along."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import threading
from typing import NamedTuple

from harness.device.vfio_user import wire
from harness.device.vfio_user.wire import HEADER, Header, ProtocolError

_ANCILLARY = socket.CMSG_SPACE(wire.MAX_FDS * array.array("i").itemsize)


class Message(NamedTuple):
    """One message: its header, what follows that, and file descriptors, which its taker closes."""

    header: Header
    body: bytes
    fds: list[int]


class Channel:
    """One connected socket. One thread receives; any thread sends, each message whole."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()

    def receive(self) -> Message | None:
        """Wait for a message; None at the end of the connection. Raises `ProtocolError`, `OSError`.

        A message is read in two steps, so that descriptors are those of the message whose bytes they came with.
        """
        fds: list[int] = []
        try:
            head = self._exactly(HEADER.size, fds, may_end=True)
            if not head:
                return None
            header = _header(head)
            body = self._exactly(header.size - HEADER.size, fds)
        except BaseException:
            close_all(fds)
            raise
        return Message(header, body, fds)

    def send(self, id_: int, command: int, flags: int, body: bytes = b"", error: int = 0) -> None:
        """Send a message. Raises `OSError` where the connection is gone."""
        data = HEADER.pack(id_, command, HEADER.size + len(body), flags, error) + body
        with self._sending:
            self._socket.sendall(data)

    def shutdown(self) -> None:
        """End the connection, also for the thread that waits in `receive`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _exactly(self, count: int, fds: list[int], *, may_end: bool = False) -> bytes:
        """Read `count` bytes, or none where the connection ends and `may_end`; what comes along is added to `fds`."""
        data = b""
        while len(data) < count:
            more = self._some(count - len(data), fds)
            if not more and (data or not may_end):
                raise ProtocolError("the connection ended inside of a message")
            if not more:
                break
            data += more
        return data

    def _some(self, count: int, fds: list[int]) -> bytes:
        data, came, flags, _ = self._socket.recvmsg(count, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        if came:
            _take(came, fds)
        if flags & socket.MSG_CTRUNC or len(fds) > wire.MAX_FDS:
            raise ProtocolError(f"more than {wire.MAX_FDS} file descriptors in one message")
        return data


def _header(head: bytes) -> Header:
    header = Header._make(HEADER.unpack(head))
    if not HEADER.size <= header.size <= wire.MAX_MESSAGE:
        raise ProtocolError(f"a message of {header.size} bytes")
    return header


def close_all(fds: list[int]) -> None:
    """Close descriptors that nobody wants, and forget them."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    fds.clear()


def _take(ancillary: list[tuple[int, int, bytes]], fds: list[int]) -> None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            got = array.array("i")
            got.frombytes(data[: len(data) - len(data) % got.itemsize])
            fds.extend(got)
