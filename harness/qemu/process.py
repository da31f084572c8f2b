# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU process that never outlives the one that started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import CouldNotRun, GuestFailure, Stage
from harness.qemu.loop import LoopThread
from harness.text import clipped, decoded

_STDERR_LIMIT = 64 * 1024
"""Bytes of QEMU's standard error that are kept: the first ones, which name the cause."""
_KILL_TIMEOUT = 10.0
"""Seconds for a killed QEMU to be gone: the kernel has to tear down its memory."""


class QemuDied(GuestFailure):
    """QEMU ended although nobody asked it to, or not well when asked: the device model under test is wrong."""


@dataclass(frozen=True)
class Exit:
    """How QEMU ended: exit code (negative: the signal that killed it) and what it said on standard error."""

    code: int
    stderr: str

    def __str__(self) -> str:
        how = f"killed by {_signal_name(-self.code)}" if self.code < 0 else f"exit code {self.code}"
        lines = self.stderr.strip().splitlines()
        errors = [line for line in lines if ": warning: " not in line and ": info: " not in line]
        said = "\n".join(errors or lines) or "nothing"
        return f"QEMU ended, {how}; it said: {said}"


class QemuProcess:
    """One running QEMU. `on_exit` is called in the loop's thread once it has ended."""

    def __init__(self, loop: LoopThread, on_exit: Callable[[Exit], None]) -> None:
        self._loop = loop
        self._on_exit = on_exit
        self._stderr = bytearray()
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.exit: Exit | None = None

    @property
    def pid(self) -> int:
        """The process id, which is QEMU's own."""
        assert self._process is not None  # noqa: S101 - start() comes first
        return self._process.pid

    def start(self, argv: Sequence[str], pass_fds: Sequence[int], deadline: Deadline) -> None:
        """Start QEMU from the loop's thread; raises `CouldNotRun` when the program does not start."""
        self._loop.call(self._start(argv, pass_fds), deadline)

    async def _start(self, argv: Sequence[str], pass_fds: Sequence[int]) -> None:
        # setpriv (util-linux) asks the kernel to kill it when this thread ends; the shell behind it becomes QEMU unless
        # we ended before it had asked. A new session keeps a terminal's Ctrl-C from QEMU, so that what it was doing can
        # still be read.
        still_ours = f'[ "$PPID" = {os.getpid()} ] && exec "$0" "$@"'
        command = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", still_ours, *argv]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, pass_fds=pass_fds, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise CouldNotRun("setpriv is not on this machine: apt-get install util-linux", stage=Stage.QEMU) from error
        self._watcher = asyncio.create_task(self._watch(self._process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        while data := await process.stdout.read(4096):
            self._stderr += data[: max(0, _STDERR_LIMIT - len(self._stderr))]
        code = await process.wait()
        self.exit = Exit(code, clipped(decoded(bytes(self._stderr)), 4000))
        self._on_exit(self.exit)

    def kill(self) -> None:
        """End QEMU at once, with what it started, and wait until it is gone; does nothing when it already is."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.exit is None:
                os.killpg(self._process.pid, signal.SIGKILL)  # the group of its session: it leads both
        self.wait(Deadline(_KILL_TIMEOUT, f"the end of QEMU, process {self._process.pid}"))

    def end(self, deadline: Deadline) -> Exit:
        """Have QEMU end in good order, and give how it did; raises `DeadlineExpired`."""
        with contextlib.suppress(ProcessLookupError):
            if self.exit is None:
                os.kill(self.pid, signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline: Deadline) -> Exit:
        """Wait until QEMU has ended; raises `DeadlineExpired`."""
        assert self._watcher is not None  # noqa: S101 - start() comes first
        self._loop.call(_join(self._watcher), deadline)
        assert self.exit is not None  # noqa: S101 - the watcher sets it last
        return self.exit


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def _join(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)
