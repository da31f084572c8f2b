# SPDX-License-Identifier: GPL-2.0-or-later
"""`make fuzz`: says very much nonsense to the server of a Python device, and looks whether it minds.

FUZZ_MESSAGES is how many messages (100000), FUZZ_SEED the seed of a run that is to be repeated. The server must go on
answering, raise no exception, leave no descriptor open and take no more memory. Ends with 0, with 1 where it does not
(one line says after which message), with 2 where it is asked for what makes no sense.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import select
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Self

import psutil
from vfio_client import CONFIG, PATIENCE, Client, descriptors, message
from vfio_messages import VERSION, Spoken, descriptors_of_all_kinds, drawn, probe

from harness.device.log import AccessLog
from harness.device.siov import DESCRIPTOR, SiovDevice
from harness.device.vfio_user.server import Server
from harness.device.vfio_user.wire import HEADER, REPLY, TYPE, Command

MESSAGES = 100_000
BETWEEN_CHECKS = 1000
"""Messages between two looks at the server."""
GROWTH = 8 << 20
"""Bytes by which a process may grow that has already heard a fifth of all messages: allocators keep what they had."""
ENDED = (BrokenPipeError, ConnectionResetError)


class Failed(Exception):
    """The server minds."""


class Wrong(Exception):
    """What was asked for makes no sense."""


class Talk:
    """One connection: sends without ever waiting for the server to read, and hears what it says meanwhile."""

    def __init__(self, path: Path, random: Random) -> None:
        self._random = random
        self._client = Client(path, version=None)
        self._socket = self._client.socket
        self._heard = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def say(self, data: bytes, fds: list[int]) -> None:
        """Send a message. Raises one of `ENDED` where the server has ended the connection."""
        while data:
            readable, writable, _ = select.select([self._socket], [self._socket], [], PATIENCE)
            if not readable and not writable:
                raise Failed(f"it has neither read nor said anything for {PATIENCE:g} s")
            if readable:
                self._hear()
            if writable:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
                try:
                    data, fds = data[self._socket.sendmsg([data], rights, socket.MSG_DONTWAIT) :], []
                except BlockingIOError:
                    continue

    def end(self) -> None:
        """Say no more, and hear the rest."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while select.select([self._socket], [], [], PATIENCE)[0]:
                self._hear()
        except (OSError, *ENDED):
            return
        raise Failed(f"it has not ended a connection for {PATIENCE:g} s")

    def _hear(self) -> None:
        data = self._socket.recv(1 << 20)
        if not data:
            raise BrokenPipeError
        self._heard += data
        while len(self._heard) >= HEADER.size:
            id_, command, size, flags, _ = HEADER.unpack_from(self._heard)
            if len(self._heard) < size:
                return
            if not flags & TYPE:
                self._answer(id_, command, bytes(self._heard[HEADER.size : size]))
            del self._heard[:size]

    def _answer(self, id_: int, command: int, body: bytes) -> None:
        """Answer a request for memory: mostly as asked, sometimes with an error, too little, or not at all."""
        how = self._random.random()
        if how < 0.1:
            return
        answer = body[:16]
        if command == Command.DMA_READ:
            answer += self._contents(struct.unpack_from("<Q", body, 8)[0])
        said = message(command, answer[: self._random.randrange(24)] if how < 0.2 else answer, flags=REPLY, id_=id_)
        self._socket.sendall(said if how < 0.9 else message(command, flags=REPLY | 0x20, id_=id_, error=14))

    def _contents(self, count: int) -> bytes:
        """Give memory in which a descriptor may be found, mostly one that can be done."""
        if count != DESCRIPTOR.size or self._random.random() < 0.1:
            return self._random.randbytes(count)
        source, destination, completion = (self._random.randrange(0x11000) for _ in range(3))
        return DESCRIPTOR.pack(
            source, destination, completion, *(self._random.randrange(most) for most in (9000, 9, 99))
        )


class Fuzz:
    """A run: `heard` counts the messages that were sent."""

    def __init__(self, server: Server, fds: Mapping[str, int], seed: int, messages: int) -> None:
        self.heard = self.connections = 0
        self._server = server
        self._fds = fds
        self._random = Random(seed)  # noqa: S311 - it is to be repeated, and keeps no secret
        self._messages = messages
        self._begun = time.monotonic()
        self._usual = len(descriptors())
        self._memory: int | None = None

    def run(self) -> None:
        """Send all messages. Raises `Failed`."""
        self._usual = self._check()
        while self.heard < self._messages:
            until = min(self.heard + BETWEEN_CHECKS, self._messages)
            while self.heard < until:
                self._connection(until - self.heard)
            fds = self._check()
            if fds > self._usual:
                raise Failed(f"{fds} descriptors are open, where {self._usual} were")
            if self.heard * 10 // self._messages > (self.heard - BETWEEN_CHECKS) * 10 // self._messages:
                self._tell(fds)

    def _connection(self, most: int) -> None:
        """Talk to the server once: up to `most` messages, fewer where it does not want to hear them."""
        self.connections += 1
        left = min(most, self._random.choice((1, 5, 20, 100, 400)))
        with Talk(self._server.path, self._random) as talk:
            try:
                if self._random.random() < 0.95:
                    talk.say(VERSION, [])
                sound = probe(self._random) if self._random.random() < 0.5 else iter(())
                for _ in range(left):
                    self.heard += 1
                    self._say(talk, next(sound, None) or drawn(self._random))
            except ENDED:
                return
            if self._random.random() < 0.8:
                talk.end()

    def _say(self, talk: Talk, spoken: Spoken) -> None:
        talk.say(spoken.data, [self._fds[kind] for kind in spoken.fds])

    def _check(self) -> int:
        """Look at the server, and give the descriptors that are open while a new client is connected."""
        if not self._server._thread.is_alive():
            raise Failed("its thread has ended")
        device = self._server.device
        try:
            with Client(self._server.path) as client:
                if client.read(CONFIG, 0, 2) != struct.pack("<H", device.identity.vendor_id):
                    raise Failed("it gives another vendor ID")
                fds = len(descriptors())
        except (OSError, AssertionError) as error:
            raise Failed(f"it does not serve a new client: {error!r}") from error
        if device.broken is not None:
            raise Failed(f"it raised {device.broken!r}")
        self._check_memory()
        return fds

    def _check_memory(self) -> None:
        gc.collect()
        memory = psutil.Process().memory_info().rss
        if self.heard * 5 >= self._messages and self._memory is None:
            self._memory = memory
        if self._memory is not None and memory > self._memory + GROWTH:
            raise Failed(f"memory has grown from {self._memory >> 10} to {memory >> 10} KiB")

    def _tell(self, fds: int) -> None:
        rate = self.heard / (time.monotonic() - self._begun)
        memory = psutil.Process().memory_info().rss
        tell(
            f"{self.heard} of {self._messages} messages, {self.connections} connections, {rate:.0f} messages/s, "
            f"{fds} descriptors, {memory / (1 << 20):.1f} MiB"
        )


def tell(text: str) -> None:
    sys.stdout.write(f"fuzz: {text}\n")
    sys.stdout.flush()


def wanted(name: str, default: int, least: int) -> int:
    """Give a number that the environment sets. Raises `Wrong`."""
    text = os.environ.get(name, "")
    try:
        number = int(text) if text else default
    except ValueError:
        number = least - 1
    if number < least:
        raise Wrong(f"{name}={text}: it takes a whole number, {least} at least")
    return number


@contextmanager
def served() -> Iterator[Server]:
    """Serve a device whose log is short: that it grows up to a bound is no leak."""
    device = SiovDevice()
    device.log = AccessLog(kept=1000)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        server = Server(device, Path(folder) / "socket")
        yield server
        server.close()  # not where it failed: a server that hangs would hang this too


def main() -> int:
    """Run, and give the exit code."""
    logging.disable()
    try:
        messages = wanted("FUZZ_MESSAGES", MESSAGES, 1)
        seed = wanted("FUZZ_SEED", secrets.randbelow(1 << 32), 0)
    except Wrong as wrong:
        sys.stderr.write(f"fuzz: {wrong}\n")
        return 2
    tell(f"seed {seed}")
    with served() as server, descriptors_of_all_kinds() as fds:
        fuzz = Fuzz(server, fds, seed, messages)
        try:
            fuzz.run()
        except Failed as failed:
            why = failed if server._thread.is_alive() else "its thread has ended"
            tell(f"FAILED after message {fuzz.heard} of seed {seed}: {why}")
            shutil.rmtree(server.path.parent, ignore_errors=True)
            os._exit(1)  # its threads may never end
    tell(f"passed: {fuzz.heard} messages in {fuzz.connections} connections, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
