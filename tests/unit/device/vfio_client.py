# SPDX-License-Identifier: GPL-2.0-or-later
"""A vfio-user client in place of QEMU: it says what a test tells it to, also what no sound client would."""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from harness.device.device import Device
from harness.device.vfio_user.server import Server
from harness.device.vfio_user.wire import HEADER, Command

PATIENCE = 20.0
"""Seconds after which a test stops waiting for the server."""
CONFIG, MSIX = 7, 2
"""The region, and the kind of interrupts."""
NO_REPLY, ERROR, REPLY = 0x10, 0x20, 0x1
NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER = 1, 2, 4, 8, 16, 32
"""Flags of SET_IRQS."""
READ, WRITE = 1, 2
UNMAP_ALL = 2


class Serving(Protocol):
    """The fixture `serving`: serves a device until the test is over."""

    def __call__(self, device: Device, *, memory_files: bool = True) -> Server: ...


class Said(NamedTuple):
    """One message of the server."""

    id: int
    command: int
    flags: int
    error: int
    body: bytes

    @property
    def is_reply(self) -> bool:
        return self.flags & 0xF == REPLY


class Client:
    """One connection. `memory` is what DMA messages read and write, from address `base` on; None refuses them."""

    def __init__(self, path: Path, *, version: bytes | None = b"\0\0\0\0") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        # Not settimeout() yet: with that, connect() would not wait until the server takes the clients before.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(PATIENCE), 0))
        self.socket.connect(str(path))
        self.socket.settimeout(PATIENCE)
        self.memory: bytearray | None = None
        self.base = 0
        self.asked: list[Said] = []
        self._id = 0
        if version is not None:
            assert self.ask(Command.VERSION, version).error == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def say(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes, whatever they are, descriptors with the first of them."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.socket.sendmsg([data], rights)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def send(self, command: int, body: bytes = b"", *, flags: int = 0, fds: Sequence[int] = ()) -> int:
        """Send a whole message, and give its ID."""
        self._id = (self._id + 1) & 0xFFFF
        self.say(message(command, body, flags=flags, id_=self._id), fds)
        return self._id

    def receive(self) -> Said | None:
        """Wait for a message; None where the server ends the connection."""
        head = self._exactly(HEADER.size)
        if head is None:
            return None
        id_, command, size, flags, error = HEADER.unpack(head)
        body = self._exactly(size - HEADER.size)
        assert body is not None, "the connection ended inside of a message"
        return Said(id_, command, flags, error, body)

    def ask(self, command: int, body: bytes = b"", *, flags: int = 0, fds: Sequence[int] = ()) -> Said:
        """Send a message and give its answer; what the server asks meanwhile is answered."""
        number = self.send(command, body, flags=flags, fds=fds)
        while True:
            said = self.receive()
            assert said is not None, f"no answer to command {command}"
            if said.is_reply:
                assert (said.id, said.command) == (number, command), f"an answer to another message: {said}"
                assert bool(said.flags & ERROR) == bool(said.error)
                assert not (said.error and said.body), "a refusal has no body"
                return said
            self.answer(said)

    def request(self) -> Said:
        """Wait for what the server asks next, and leave it without an answer."""
        said = self.receive()
        assert said is not None
        assert not said.is_reply
        return said

    def serve(self, count: int) -> None:
        """Answer the next requests of the server."""
        for _ in range(count):
            self.answer(self.request())

    def answer(self, said: Said) -> None:
        """Answer a request of the server: DMA goes to `memory`."""
        self.asked.append(said)
        address, count = struct.unpack_from("<QQ", said.body)
        place = slice(address - self.base, address - self.base + count)
        if self.memory is None or not 0 <= place.start <= place.stop <= len(self.memory):
            self.say(message(said.command, flags=REPLY | ERROR, id_=said.id, error=14))  # EFAULT
            return
        data = b""
        if said.command == Command.DMA_READ:
            data = bytes(self.memory[place])
        else:
            assert said.command == Command.DMA_WRITE
            self.memory[place] = said.body[16:]
        self.say(message(said.command, said.body[:16] + data, flags=REPLY, id_=said.id))

    def is_ended(self) -> bool:
        """Wait for the server's end of the connection; False where it says anything else."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def read(self, region: int, offset: int, count: int) -> bytes:
        said = self.ask(Command.REGION_READ, struct.pack("<QII", offset, region, count))
        assert said.error == 0
        assert said.body[:16] == struct.pack("<QII", offset, region, count)
        return said.body[16:]

    def write(self, region: int, offset: int, data: bytes) -> None:
        body = struct.pack("<QII", offset, region, len(data))
        assert self.ask(Command.REGION_WRITE, body + data)[3:] == (0, body)

    def write_unanswered(self, region: int, offset: int, data: bytes) -> None:
        self.send(Command.REGION_WRITE, struct.pack("<QII", offset, region, len(data)) + data, flags=NO_REPLY)

    def map(
        self, address: int, size: int, *, fds: Sequence[int] = (), flags: int = READ | WRITE, offset: int = 0
    ) -> int:
        """Map memory, and give the error number."""
        said = self.ask(Command.DMA_MAP, struct.pack("<IIQQQ", 32, flags, offset, address, size), fds=fds)
        assert said.body == b""
        return said.error

    def unmap(self, address: int, size: int, *, flags: int = 0) -> int:
        """Unmap memory, and give the error number."""
        body = struct.pack("<IIQQ", 24, flags, address, size)
        said = self.ask(Command.DMA_UNMAP, body)
        assert said.error or said.body == body
        return said.error

    def set_irqs(
        self, flags: int, start: int = 0, count: int = 1, *, data: bytes = b"", fds: Sequence[int] = (),
        kind: int = MSIX,
    ) -> int:  # fmt: skip
        """Set interrupts, and give the error number."""
        body = struct.pack("<IIIII", 20 + len(data), flags, kind, start, count) + data
        said = self.ask(Command.DEVICE_SET_IRQS, body, fds=fds)
        assert said.body == b""
        return said.error

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                assert not data, "the connection ended inside of a message"
                return None
            data += more
        return data


def closed(server: Server) -> None:
    """Close a server; a test fails, and does not hang, where that does not return."""
    closing = threading.Thread(target=server.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive(), "close() does not return"


def message(
    command: int, body: bytes = b"", *, flags: int = 0, id_: int = 1, size: int | None = None, error: int = 0
) -> bytes:
    """Give a message as bytes; `size` is what its header says, where that is not the truth."""
    return HEADER.pack(id_, command, HEADER.size + len(body) if size is None else size, flags, error) + body


def version(json: bytes, *, major: int = 0, minor: int = 0) -> bytes:
    """Give the body of a first message."""
    return struct.pack("<HH", major, minor) + json


@contextmanager
def file_of_memory(size: int = 0x10000) -> Iterator[int]:
    """Make a file as guest RAM is."""
    fd = os.memfd_create("guest RAM")
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)


class Event:
    """An event descriptor, to give away and to wait for."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def wait(self) -> int:
        """Wait until it is raised, and give how often it was."""
        assert select.select([self.fd], [], [], PATIENCE)[0], "the event was not raised"
        return os.eventfd_read(self.fd)

    def is_raised(self) -> bool:
        return bool(select.select([self.fd], [], [], 0)[0])


class Lent:
    """One end of a pipe to give away: `is_closed` waits until nobody has it any more."""

    def __init__(self) -> None:
        self._reader, self.fd = os.pipe()
        self._is_ours = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        os.close(self._reader)

    def let_go(self) -> None:
        """Close our own."""
        if self._is_ours:
            os.close(self.fd)
            self._is_ours = False

    def is_closed(self) -> bool:
        self.let_go()
        return bool(select.select([self._reader], [], [], PATIENCE)[0]) and os.read(self._reader, 1) == b""


def descriptors() -> dict[str, str]:
    """Give the open descriptors of this process, and what they are."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[path.name] = str(path.readlink())
        except FileNotFoundError:
            continue  # that of the listing itself
    return found
