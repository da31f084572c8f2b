# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's end of an SSH connection that it opened itself, and that has been waiting for the harness since.

A guest's init connects to an address behind which QEMU has a socket of the harness (`guestfwd`), and gives the
connection to a dropbear of its own. QEMU keeps such a connection in a checkpoint. So a clone's dropbear is there when
the clone is: forked, and past its greeting, which takes an emulated CPU as long as all the rest of a login.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from harness.deadline import Deadline
from harness.guest.ssh import GuestLost

_GREETING_LIMIT = 64 * 1024
"""Bytes of a greeting: dropbear's has about 500."""
_PORTION = 4096


class Link(socket.socket):
    """The harness's end: a connection on which what was received before is received again."""

    def __init__(self, connection: socket.socket, said: bytes = b"") -> None:
        super().__init__(fileno=connection.detach())
        self._said = said

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive what had been said, then what is said."""
        if not self._said:
            return super().recv(size, flags)
        said, self._said = self._said[:size], self._said[size:]
        return said

    def abort(self) -> None:
        """Cut the connection, so that whoever waits on it wakes. May be called from any thread."""
        with suppress(OSError):  # the other end was quicker
            self.shutdown(socket.SHUT_RDWR)

    def greeting(self, deadline: Deadline) -> bytes:
        """Give what the guest says of itself, once all of it has come; it is still there to be received.

        Raises `GuestLost` for what is no greeting, `DeadlineExpired` for none.
        """
        while not _is_whole(self._said):
            deadline.check()
            self.settimeout(max(0.01, deadline.remaining()))
            try:
                portion = super().recv(_PORTION)
            except TimeoutError as error:
                raise deadline.error() from error
            self._said += portion
            if not portion or len(self._said) > _GREETING_LIMIT:
                raise GuestLost(f"the guest's SSH server greets with {self._said[:80]!r}")
        return self._said


def _is_whole(said: bytes) -> bool:
    """Tell whether a server's version line and its first packet are there (RFC 4253, sections 4.2 and 6)."""
    line, end, rest = said.partition(b"\n")
    if not end or not line.startswith(b"SSH-"):
        return False
    return len(rest) >= 4 and len(rest) >= 4 + struct.unpack_from(">I", rest)[0]
