# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that go on in the guest while a test does something else: what blocks, what races."""

from __future__ import annotations

from harness.guest.agent import Agent, Answer, Call
from harness.guest.ssh import COMMAND_TIMEOUT, Session


class Pending:
    """One call that was begun, in a process of its own in the guest; raises as `Agent.call`."""

    def __init__(self, session: Session, call: Call) -> None:
        self._agent = Agent(session)
        self._receive = self._agent.begin(call)
        self._answer: Answer | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has returned, as far as the harness has heard."""
        return self._answer is not None or self._agent.has_more

    def wait(self, timeout: float = COMMAND_TIMEOUT) -> Answer:
        """Give what came of it, when it has. Raises `GuestTimeout` where it has not in `timeout` seconds."""
        if self._answer is None:
            self._answer = self._receive(timeout)
            self._agent.close()
        return self._answer
