# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's uevents: what it says of devices that come, meet a driver and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.guest import agent
from harness.guest.agent import Agent
from harness.guest.ssh import COMMAND_TIMEOUT, Session

_PORTION = 10.0
"""Seconds of waiting in one call to the agent."""
_KEPT = 10_000
"""Uevents kept; a guest can cause any number of them."""


@dataclass(frozen=True)
class Uevent:
    """One uevent: `add`, `bind`, `remove` and so on, the device's path below /sys, and the kernel's fields."""

    action: str
    devpath: str
    fields: Mapping[str, str]

    @classmethod
    def parse(cls, message: bytes) -> Uevent:
        """Read a message of lib/kobject_uevent.c: `ACTION@DEVPATH`, then `KEY=VALUE`, all ended by NUL bytes."""
        head, *rest = message.decode("utf-8", errors="replace").rstrip("\0").split("\0")
        action, _, devpath = head.partition("@")
        pairs = (field.partition("=") for field in rest)
        return cls(action, devpath, {key: value for key, _, value in pairs})


class Uevents:
    """All uevents of a guest from the making of this object on."""

    def __init__(self, session: Session) -> None:
        self._agent = Agent(session)
        self._seen: list[Uevent] = []
        self._agent.call(agent.listen()).value()

    def wait(self, found: Callable[[Iterable[Uevent]], bool], deadline: Deadline) -> None:
        """Wait until `found` is true of those seen so far; raises `DeadlineExpired`, or as `Agent.call`."""
        while not found(self._seen):
            deadline.check()
            self._collect(min(_PORTION, deadline.remaining()))

    def seen(self) -> list[Uevent]:
        """Give all that have arrived by now."""
        self._collect(0)
        return self._seen

    def close(self) -> None:
        """Stop listening."""
        self._agent.close()

    def _collect(self, patience: float) -> None:
        answer = self._agent.call(agent.uevents(patience), timeout=patience + COMMAND_TIMEOUT).value()
        arrived = [Uevent.parse(message) for message in answer.split(b"\n") if message]
        self._seen.extend(arrived[: _KEPT - len(self._seen)])
