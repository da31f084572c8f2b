# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial console: captured from power-on, kept in a file, read line by line as it comes, independent of SSH."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path

from harness.deadline import Deadline, DeadlineExpired
from harness.guest.reports import KernelReport, ReportKind, ReportScanner
from harness.qemu.log import Log
from harness.qemu.loop import LoopThread
from harness.text import decoded

LOG_LIMIT = 16 * 1024 * 1024
"""Bytes of console kept on disk; a guest can print for ever."""
_LINES_KEPT = 20_000
_LINE_LIMIT = 4096
"""Bytes of one line; printk's own limit is 1024 (PRINTKRB_RECORD_MAX, kernel/printk/printk.c)."""

_RESTORED = b"[iov-harness: restored from a checkpoint, which was made here]\n"
_CATCH_UP_TURNS = 8
"""Turns of the event loop in which waiting input reaches its reader: it is read in one and handed on in the next."""
_CLOSE_TIMEOUT = 3.0
"""Seconds for a capture to end: turns of the event loop, which nothing ought to hold up."""


class Console:
    """A console being captured. `on_line` is called in the loop's thread for every line, in order."""

    def __init__(self, loop: LoopThread, log: Path, on_line: Callable[[str], None] = lambda _: None) -> None:
        self._loop = loop
        self._log = Log(log)
        self._room = LOG_LIMIT
        self._on_line = on_line
        self._changed = threading.Condition()
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._count = 0
        self._scanner = ReportScanner()
        self._ended = False
        self._aborted = False
        self._task: Future[None] | None = None

    def capture(self, connection: socket.socket) -> None:
        """Capture from a connected socket until its other end closes."""
        self._task = self._loop.start(self._pump(connection))

    def recall(self, said: bytes) -> None:
        """Begin with what the console of the base machine had said before this one was cloned from it."""
        self._write(said + (b"" if said.endswith(b"\n") else b"\n") + _RESTORED)
        *lines, _ = said.split(b"\n")
        self._keep(lines)

    @property
    def position(self) -> int:
        """How many lines there have been so far."""
        return self._count

    @property
    def broken(self) -> OSError | None:
        """Why the file does not hold all that the console said; None while it does."""
        return self._log.broken

    @property
    def is_cut(self) -> bool:
        """Whether the console went on after its file was full."""
        return self._room <= 0

    @property
    def dropped(self) -> Counter[ReportKind]:
        """How many kernel reports of each kind there have been so far that `reports` does not give."""
        with self._changed:
            return self._scanner.dropped

    def tail(self, count: int = 20) -> list[str]:
        """Give the last lines, as printable text."""
        with self._changed:
            return list(self._lines)[-count:]

    def reports(self) -> list[KernelReport]:
        """Give what the kernel has complained of so far; of very many, the first ones: see `dropped`."""
        with self._changed:
            return list(self._scanner.reports)

    def wait_line(self, pattern: str, deadline: Deadline, *, since: int = 0) -> str:
        """Wait for a line in which the regular expression `pattern` is found, from line number `since` on.

        Raises `DeadlineExpired`, also when the console has ended.
        """
        wanted = re.compile(pattern)
        with self._changed:
            seen = since
            while True:
                first = self._count - len(self._lines)
                for line in list(self._lines)[max(0, seen - first) :]:
                    if wanted.search(line):
                        return line
                seen = self._count
                if self._ended or self._aborted:
                    raise DeadlineExpired(
                        f"{deadline.what}: {'it has ended' if self._ended else 'the machine is lost'}"
                    )
                deadline.check()
                self._changed.wait(deadline.remaining())

    def abort(self) -> None:
        """Wake whoever waits for a line: the machine is lost, and says no more. May be called from any thread."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    def catch_up(self, deadline: Deadline, *, ended: bool) -> None:
        """Take what has already been sent; where the sender has `ended`, all that it ever sent."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError, CancelledError, DeadlineExpired):
            if ended:
                self._task.result(deadline.remaining())
            else:
                self._loop.call(_turns(_CATCH_UP_TURNS), deadline)

    def close(self) -> None:
        """Take what came until now, and stop capturing."""
        deadline = Deadline(_CLOSE_TIMEOUT, "the end of the console")
        self.catch_up(deadline, ended=False)
        if self._task is not None:
            self._task.cancel()
        self.catch_up(deadline, ended=False)  # the capture ends in the loop's thread, and must not meet a closed log
        self._log.close()

    async def _pump(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        pending = b""
        try:
            while data := await _read(reader):
                self._write(data)
                *lines, pending = (pending + data).split(b"\n")
                if len(pending) > _LINE_LIMIT:
                    lines, pending = [*lines, pending], b""
                self._take(lines)
        finally:
            writer.close()
            self._take([pending] if pending else [], last=True)

    def _write(self, data: bytes) -> None:
        if self._room > 0:
            self._log.write(data[: self._room])
            self._room -= len(data)
            if self._room <= 0:
                self._log.write(b"\n[iov-harness: the console went on; this log ends here]\n")

    def _take(self, raw: list[bytes], *, last: bool = False) -> None:
        for line in self._keep(raw, last=last):
            self._on_line(line)

    def _keep(self, raw: list[bytes], *, last: bool = False) -> list[str]:
        # A carriage return in its midst parts a line in two.
        lines = [text for line in raw for text in decoded(line[:_LINE_LIMIT]).rstrip("\n").split("\n")]
        with self._changed:
            self._ended = last
            for line in lines:
                self._lines.append(line)
                self._count += 1
                self._scanner.feed(line)
            self._changed.notify_all()
        return lines


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:  # QEMU ended before it took the connection
        return b""


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
