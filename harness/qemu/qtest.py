# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's qtest protocol: memory and I/O ports of a machine, read and written from here, with no guest in it.

docs/devel/testing/qtest.rst and system/qtest.c in QEMU. One line asks, one line answers.
"""

from __future__ import annotations

import socket
from typing import Literal

from harness.errors import GuestFailure

_LETTERS = {1: "b", 2: "w", 4: "l", 8: "q"}
_PORTS = {1: "b", 2: "w", 4: "l"}
_ANSWER_LIMIT = 8 << 20
_TIMEOUT = 30.0
"""Seconds for QEMU to answer: a device that is silent holds it up for 5 s (`x-msg-timeout` of vfio-user-pci)."""

Size = Literal[1, 2, 4, 8]


class QtestLost(GuestFailure):
    """QEMU ended, stopped answering, or refused an access that it should know."""


class Qtest:
    """A connection to QEMU's qtest server. Raises `QtestLost` wherever QEMU does not answer as it should."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(_TIMEOUT)
        self._rest = b""

    def read(self, address: int, size: Size = 4) -> int:
        """Read memory with one access of `size` bytes."""
        return int(self._ask(f"read{_LETTERS[size]} {address:#x}"), 16)

    def write(self, address: int, value: int, size: Size = 4) -> None:
        """Write memory with one access of `size` bytes."""
        self._ask(f"write{_LETTERS[size]} {address:#x} {value:#x}")

    def read_bytes(self, address: int, count: int) -> bytes:
        """Read memory, as many accesses as it takes."""
        return bytes.fromhex(self._ask(f"read {address:#x} {count:#x}").removeprefix("0x"))

    def write_bytes(self, address: int, data: bytes) -> None:
        """Write memory, as many accesses as it takes."""
        if data:
            self._ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def port_in(self, port: int, size: Literal[1, 2, 4] = 4) -> int:
        """Read an I/O port."""
        return int(self._ask(f"in{_PORTS[size]} {port:#x}"), 16)

    def port_out(self, port: int, value: int, size: Literal[1, 2, 4] = 4) -> None:
        """Write an I/O port."""
        self._ask(f"out{_PORTS[size]} {port:#x} {value:#x}")

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()

    def _ask(self, request: str) -> str:
        try:
            self._socket.sendall(request.encode() + b"\n")
            while True:
                # An interrupt that is intercepted tells of itself between answers.
                words = self._line().split()
                if words[:1] == ["OK"]:
                    return words[1] if len(words) > 1 else ""
                if words[:1] != ["IRQ"]:
                    raise QtestLost(f"qtest {request}: QEMU answers {' '.join(words)[:200]!r}")
        except TimeoutError as error:
            self._socket.shutdown(socket.SHUT_RDWR)  # a late answer would be taken for the next one
            raise QtestLost(f"qtest {request}: no answer within {_TIMEOUT:g} s") from error
        except OSError as error:
            raise QtestLost(f"qtest {request}: QEMU is gone ({error.strerror})") from error

    def _line(self) -> str:
        while b"\n" not in self._rest:
            data = self._socket.recv(65536)
            if not data:
                raise QtestLost("QEMU ended, or closed the qtest connection")
            self._rest += data
            if len(self._rest) > _ANSWER_LIMIT:
                raise QtestLost(f"qtest answers without end (over {_ANSWER_LIMIT} bytes)")
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("ascii", errors="replace")
