# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that go on in the guest while a test does something else: what blocks, what races."""

from __future__ import annotations

from harness.guest import agent
from harness.guest.agent import Agent, Answer, Call
from harness.guest.ssh import COMMAND_TIMEOUT, Session

_GETPID = 39
"""The system call on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl)."""


class Process:
    """A process in the guest that does one call at a time, and is there before the first. Raises as `Agent.call`."""

    def __init__(self, session: Session) -> None:
        self._agent = Agent(session)
        self.pid, _ = agent.result(self._agent.call(agent.syscall(_GETPID, what="asking for a process ID")))

    def start(self, call: Call) -> Pending:
        """Begin a call, and do not wait for it; the process ends when the call is over, or waited for in vain."""
        return Pending(self._agent, call)


class Pending:
    """One call that was begun; raises as `Agent.call`."""

    def __init__(self, on: Agent, call: Call) -> None:
        self._agent = on
        self._receive = on.begin(call)
        self._answer: Answer | None = None

    @property
    def is_done(self) -> bool:
        """Whether the guest has said what came of it, or can no longer."""
        return self._answer is not None or self._agent.has_more

    def wait(self, timeout: float = COMMAND_TIMEOUT) -> Answer:
        """Give what came of it, when it has. Raises `GuestTimeout` where it has not in `timeout` seconds."""
        if self._answer is None:
            try:
                self._answer = self._receive(timeout)
            finally:
                self._agent.close()
        return self._answer
