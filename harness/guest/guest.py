# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest as a test sees it: commands, files, PCI functions and the kernel's log."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from harness.deadline import Deadline, DeadlineExpired
from harness.errors import GuestFailure
from harness.guest import agent, pci
from harness.guest.agent import Agent, Call
from harness.guest.console import Console
from harness.guest.driver import Driver
from harness.guest.pci import Bdf, Function
from harness.guest.pending import Pending, Process
from harness.guest.ssh import COMMAND_TIMEOUT, Completed, GuestTimeout, Session

_KMSG = "/dev/kmsg"
_STAMP = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_QUIET, _LOUD = "<7>", "<4>"
"""printk levels: debug, which `loglevel=5` keeps from the console, and warning, which reaches it."""


class Guest:
    """One guest, reached over one SSH session. Whatever goes wrong in it is raised as a `GuestFailure`."""

    def __init__(self, session: Session, console: Console) -> None:
        self.session = session
        self.console = console
        self.agent = Agent(session)
        self._marks = itertools.count(1)

    def run(self, command: str | Sequence[str], *, timeout: float = COMMAND_TIMEOUT, check: bool = False) -> Completed:
        """Run a command; see `Session.run`."""
        return self.session.run(command, timeout=timeout, check=check)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file in the guest; see `Session.put`."""
        self.session.put(data, path, mode=mode)

    def get(self, path: str) -> bytes:
        """Read a file of the guest; see `Session.get`."""
        return self.session.get(path)

    def read(self, path: str) -> str:
        """Read a small file, such as one in sysfs, with its true errno."""
        return self.agent.call(agent.read(path)).value().decode("utf-8", errors="replace")

    def write(self, path: str, value: str | bytes) -> None:
        """Write to an existing file with one write(2), with its true errno."""
        data = value if isinstance(value, bytes) else value.encode()
        self.agent.call(agent.write(path, data)).value()

    def functions(self) -> list[Function]:
        """Give all PCI functions that the kernel knows."""
        return pci.functions(self.agent)

    def function(self, bdf: Bdf | str) -> Function:
        """Give one PCI function by its address."""
        return Function(self.agent, bdf if isinstance(bdf, Bdf) else Bdf.parse(bdf))

    def driver(self, name: str) -> Driver:
        """Give a driver of PCI functions by its name."""
        return Driver(self.agent, name)

    def rescan(self) -> None:
        """Have the kernel look for PCI functions on all buses."""
        self.agent.call(self.rescanning()).value()

    def rescanning(self) -> Call:
        """Give the call of `rescan`, to be done with others or meanwhile."""
        return agent.write("/sys/bus/pci/rescan", b"1")

    def process(self) -> Process:
        """Give a new process in the guest, which does system calls that others do not wait for."""
        return Process(self.session)

    def start(self, call: Call) -> Pending:
        """Begin a system call in a process of its own, and do not wait for it."""
        return self.process().start(call)

    def is_blocked(self, process: Process) -> bool:
        """Tell whether a process is in uninterruptible sleep (state D): in a system call that waits."""
        state = self.read(f"/proc/{process.pid}/stat").rpartition(")")[2].split()  # behind the name, which may hold any
        return state[:1] == ["D"]

    def log_mark(self) -> str:
        """Put a mark into the kernel's log, from which on `messages` gives what the kernel said."""
        mark = f"iov-harness: mark {next(self._marks)}"
        self.write(_KMSG, f"{_QUIET}{mark}\n")
        return mark

    def messages(self, since: str) -> list[str]:
        """Give the kernel's messages after a mark, of all levels, without their time stamps."""
        lines = self.run("dmesg", check=True).stdout.splitlines()
        texts = [_STAMP.sub("", line) for line in lines]
        if since not in texts:
            raise GuestFailure(f"the kernel's log no longer holds the mark {since!r}: it has said too much since")
        return texts[texts.index(since) + 1 :]

    def drain(self, timeout: float = 10.0) -> None:
        """Wait until all that the kernel has said until now has arrived on the console.

        Raises `GuestTimeout` or `GuestLost` when the guest does not get a line through any more.
        """
        mark = f"iov-harness: drained {next(self._marks)}"
        position = self.console.position
        self.write(_KMSG, f"{_LOUD}{mark}\n")
        try:
            self.console.wait_line(f"{mark}$", Deadline(timeout, "the console"), since=position)
        except DeadlineExpired as error:
            raise GuestTimeout(f"the kernel's log does not reach the console any more: {error}") from error
