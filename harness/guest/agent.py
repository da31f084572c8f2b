# SPDX-License-Identifier: GPL-2.0-or-later
"""Single system calls in a guest, with their true errno: the harness's end of `iov-agent`.

Requests are lines over one SSH channel; several go in one round trip, which takes a tenth of a new command's time.
"""

from __future__ import annotations

import errno as errnos
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import paramiko

from harness.deadline import Deadline
from harness.errors import GuestFailure
from harness.guest.ssh import COMMAND_TIMEOUT, GuestLost, GuestTimeout, Session, hang_up

PORT = 7107
"""Where `guest-images/initramfs/init` lets it listen, on the guest's loopback."""
READ_LIMIT = 64 * 1024
"""Bytes of one read: sysfs gives a page at most, configuration space is 4096 bytes."""
_ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of one answer line; more is no answer but an attack."""
_AT_ONCE = 100
"""Calls sent before their answers are read. More could fill the channel both ways, and neither end would go on."""
_MAX_ERRNO = 4095
"""The greatest error number that a system call gives (include/linux/err.h)."""


class GuestErrno(GuestFailure):
    """A system call failed in the guest, as nobody expected; `errno` is its error number."""

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(f"{what}: {errno_name(errno)} ({os.strerror(errno)})")
        self.errno = errno


class WrongErrno(GuestFailure):
    """A system call in the guest failed in another way than a test states, or not at all."""


def errno_name(number: int) -> str:
    """Give the symbol of an error number, `EBUSY` for 16."""
    return errnos.errorcode.get(number, f"errno {number}")


@contextmanager
def raises_errno(expected: int) -> Iterator[None]:
    """State that the block fails in the guest with this error number; raises `WrongErrno` for anything else."""
    try:
        yield
    except GuestErrno as error:
        if error.errno != expected:
            raise WrongErrno(f"expected {errno_name(expected)}, but: {error}") from error
    else:
        raise WrongErrno(f"expected {errno_name(expected)}, but it succeeded")


@dataclass(frozen=True)
class Call:
    """One request: the agent's words for it, and how to speak of it."""

    name: str
    path: str
    words: tuple[str, ...] = ()
    what: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of one call: errno 0 and data, or an error number."""

    call: Call
    errno: int
    data: bytes

    def value(self) -> bytes:
        """Give the data; raises `GuestErrno` when the call failed."""
        if self.errno:
            raise GuestErrno(self.errno, self.call.what or f"{self.call.name} {self.call.path}")
        return self.data


def read(path: str, offset: int = 0, length: int = READ_LIMIT) -> Call:
    """Read a file from `offset` on, up to `length` bytes."""
    return Call("read", path, (str(offset), str(length)), f"reading {path}")


def write(path: str, data: bytes, offset: int = 0) -> Call:
    """Write to an existing file with one write(2), also of no bytes at all, from `offset` on."""
    return Call("write", path, (str(offset), data.hex()), f"writing {data!r} to {path}")


def names(path: str) -> Call:
    """List a folder."""
    return Call("list", path, what=f"listing {path}")


def link(path: str) -> Call:
    """Give the target of a symbolic link."""
    return Call("link", path, what=f"reading the link {path}")


def mode(path: str) -> Call:
    """Give a file's type and permissions, as lstat(2) has them in `st_mode`, in decimal."""
    return Call("mode", path, what=f"reading the permissions of {path}")


def insert(path: str, parameters: str = "") -> Call:
    """Load the kernel module in a file, with one finit_module(2): no dependencies. Parameters are `NAME=VALUE ...`."""
    words = (parameters.encode().hex(),) if parameters else ()
    return Call("insert", path, words, f"loading {path} {parameters}".rstrip())


def remove(module: str) -> Call:
    """Unload a kernel module, with one delete_module(2)."""
    return Call("remove", module, what=f"unloading {module}")


def syscall(number: int, *arguments: int | bytes, what: str = "") -> Call:
    """Do any system call; bytes are a buffer, which the kernel may write to. See `result`.

    What it leaves behind, such as open files, stays as long as the connection.
    """
    words = (f"={one.hex()}" if isinstance(one, bytes) else str(one) for one in arguments)
    return Call("syscall", "", (str(number), *words), what or f"system call {number}")


def clock(seconds: float) -> Call:
    """Set the guest's clock, to seconds since the epoch."""
    whole = int(seconds)
    return Call("clock", "", (str(whole), str(int((seconds - whole) * 1e9))), "setting the clock")


def listen() -> Call:
    """Have the kernel's uevents kept from now on, for `uevents` on the same connection."""
    return Call("listen", "", what="listening to uevents")


def uevents(patience: float) -> Call:
    """Give the uevents since the last call; waits for one, up to `patience` seconds."""
    return Call("uevents", "", (f"{patience:.3f}",), "waiting for uevents")


class Agent:
    """A connection to the agent in one guest, made when first needed; several do calls at the same time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel: paramiko.Channel | None = None
        self._buffer = bytearray()
        self._ids = itertools.count(1)

    def call(self, call: Call, *, timeout: float = COMMAND_TIMEOUT) -> Answer:
        """Do one call. Raises `GuestTimeout` or `GuestLost`."""
        return self.batch([call], timeout=timeout)[0]

    def batch(self, calls: Sequence[Call], *, timeout: float = COMMAND_TIMEOUT) -> list[Answer]:
        """Do calls one after another, many in one round trip; raises as `call`."""
        if not calls:
            return []
        answers: list[Answer] = []
        with self._said(Deadline(timeout, f"guest: {calls[0].what}")) as deadline:
            for start in range(0, len(calls), _AT_ONCE):
                numbered = self._ask(calls[start : start + _AT_ONCE], deadline)
                answers.extend(self._hear(call, number, deadline) for number, call in numbered)
        return answers

    def begin(self, call: Call, *, timeout: float = COMMAND_TIMEOUT) -> Callable[[float], Answer]:
        """Send one call; gives what waits for its answer, for so many seconds. Nothing else may be asked until then."""
        with self._said(Deadline(timeout, f"guest: {call.what}")) as deadline:
            [(number, _)] = self._ask([call], deadline)

        def answer(timeout: float) -> Answer:
            with self._said(Deadline(timeout, f"guest: {call.what}")) as deadline:
                return self._hear(call, number, deadline)

        return answer

    @property
    def has_more(self) -> bool:
        """Whether something has come that nobody has read yet: an answer, or the end of the connection."""
        return self._channel is None or self._channel.recv_ready() or self._channel.closed

    def close(self) -> None:
        """End the connection; the next call makes another."""
        if self._channel is not None:
            hang_up(self._channel)
        self._channel = None
        self._buffer.clear()

    @contextmanager
    def _said(self, deadline: Deadline) -> Iterator[Deadline]:
        """Tell in one way whatever goes wrong with the connection, and end it: an answer may still come to it."""
        try:
            yield deadline
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise GuestTimeout(str(deadline.error())) from None  # where we waited says nothing of what is wrong
            if isinstance(error, OSError | EOFError | paramiko.SSHException):
                raise self._session.lost(error) from error
            raise

    def _ask(self, calls: Sequence[Call], deadline: Deadline) -> list[tuple[int, Call]]:
        numbered = [(next(self._ids), call) for call in calls]
        channel = self._open(deadline)
        _send(channel, "".join(_request(call, number) for number, call in numbered).encode(), deadline)
        return numbered

    def _hear(self, call: Call, number: int, deadline: Deadline) -> Answer:
        if self._channel is None:
            raise self._session.lost("the connection to its agent was given up")
        return _answer(call, number, self._line(self._channel, deadline))

    def _open(self, deadline: Deadline) -> paramiko.Channel:
        if self._channel is None or self._channel.closed:
            self.close()
            self._channel = self._session.open_port(PORT, deadline)
        return self._channel

    def _line(self, channel: paramiko.Channel, deadline: Deadline) -> bytes:
        while b"\n" not in self._buffer:
            _limit(channel, deadline)
            data = channel.recv(65536)
            if not data:
                raise self._session.lost("its agent ended")
            self._buffer += data
            if len(self._buffer) > _ANSWER_LIMIT:
                raise GuestLost(f"the agent in the guest answers without end (over {_ANSWER_LIMIT} bytes)")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line


def _send(channel: paramiko.Channel, data: bytes, deadline: Deadline) -> None:
    while data:
        _limit(channel, deadline)
        data = data[channel.send(data) :]


def _limit(channel: paramiko.Channel, deadline: Deadline) -> None:
    """Let the next wait on the channel end with the deadline, however many there were; raises `TimeoutError`."""
    if deadline.expired:
        raise TimeoutError
    channel.settimeout(max(0.01, deadline.remaining()))


def result(answer: Answer) -> tuple[int, list[bytes]]:
    """Give what a `syscall` returned, and what its buffers then held. Raises `GuestErrno` where it failed."""
    try:
        value, *buffers = answer.value().decode("ascii").split()
        return int(value), [bytes.fromhex(buffer) for buffer in buffers]
    except ValueError as error:
        raise GuestLost(f"the agent in the guest answers nonsense: {answer.data[:80]!r}") from error


def _request(call: Call, number: int) -> str:
    return f"{number} {call.name} {call.path.encode().hex()} {' '.join(call.words)}\n"


def _answer(call: Call, number: int, line: bytes) -> Answer:
    try:
        echoed, errno, data = (line + b" ").split(b" ", 2)
        if int(echoed) == number and 0 <= int(errno) <= _MAX_ERRNO:
            return Answer(call, int(errno), bytes.fromhex(data.decode("ascii")))
    except ValueError:
        pass  # what it said instead is in the error below
    raise GuestLost(f"the agent in the guest answers nonsense: {line[:80]!r}")
