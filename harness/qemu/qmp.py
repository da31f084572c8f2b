# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP: commands with typed errors, and every event kept with its time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError

from harness.deadline import Deadline
from harness.errors import GuestFailure
from harness.qemu.log import Log
from harness.qemu.loop import LoopThread

COMMAND_TIMEOUT = 20.0
"""Seconds for QEMU to answer a command when the caller says nothing else."""
_EVENTS_KEPT = 10_000
"""Events kept in memory; a guest can cause any number of them. The record on disk ends there too."""


class CommandRefused(Exception):
    """QEMU understood a command and refused it; `desc` is its reason."""

    def __init__(self, command: str, error: ExecuteError) -> None:
        super().__init__(f"QMP {command}: {error}")
        self.command = command
        self.error_class = error.error_class
        self.desc = str(error)


class QmpLost(GuestFailure):
    """The QMP connection broke or QEMU stopped answering."""


@dataclass(frozen=True)
class Event:
    """A QMP event, with the time at which QEMU says that it happened, in seconds since the epoch."""

    name: str
    time: float
    data: Mapping[str, Any]


class Monitor:
    """A QMP connection. `on_event` is called in the loop's thread for every event."""

    def __init__(self, loop: LoopThread, record: Path, on_event: Callable[[Event], None] = lambda _: None) -> None:
        self._loop = loop
        self._record = Log(record)
        self._on_event = on_event
        self._client = QMPClient("iov-harness")
        self._listener = EventListener()
        self._changed = threading.Condition()
        self._pump: Future[None] | None = None
        self._reason = ""
        self.events: list[Event] = []

    @property
    def broken(self) -> OSError | None:
        """Why the record does not hold all that was said; None while it does."""
        return self._record.broken

    def connect(self, connection: socket.socket, deadline: Deadline) -> None:
        """Greet QEMU over a connected socket. Raises `QmpLost` or `DeadlineExpired`."""
        self._client.register_listener(self._listener)
        try:
            self._loop.call(self._client.connect(connection), deadline)
        except QMPError as error:
            raise QmpLost(f"QEMU did not greet over QMP: {error}") from error
        self._pump = self._loop.start(self._collect())

    def execute(self, command: str, *, timeout: float = COMMAND_TIMEOUT, **arguments: Any) -> Any:
        """Run a command as `command` does; an underscore in an argument's name stands for a dash."""
        return self.command(command, {_dashed(name): value for name, value in arguments.items()}, timeout=timeout)

    def command(self, command: str, arguments: Mapping[str, Any], *, timeout: float = COMMAND_TIMEOUT) -> Any:
        """Run a command with arguments by QEMU's own names for them, and give what it returns.

        Raises `CommandRefused` when QEMU refuses, `QmpLost` when the connection is gone, `DeadlineExpired`
        for no answer.
        """
        deadline = Deadline(timeout, f"QEMU's answer to {command}")
        self._note({"execute": command, "arguments": arguments})
        try:
            answer = self._loop.call(self._client.execute(command, dict(arguments)), deadline)
        except ExecuteError as error:
            self._note({"error": {"class": error.error_class, "desc": str(error)}})
            raise CommandRefused(command, error) from error
        except (QMPError, OSError, CancelledError) as error:
            raise QmpLost(f"QMP {command}: the connection to QEMU is gone ({error})") from error
        self._note({"return": answer})
        return answer

    def wait_event(
        self, name: str, deadline: Deadline, *, matching: Callable[[Event], bool] = lambda _: True, since: int = 0
    ) -> Event:
        """Wait for an event `name`; `since` is an index into `events` from which on it counts.

        Raises `DeadlineExpired`, and `QmpLost` when `abort` says that none will come.
        """
        with self._changed:
            position = since
            while True:
                for event in self.events[position:]:
                    if event.name == name and matching(event):
                        return event
                position = len(self.events)
                if self._reason:
                    raise QmpLost(self._reason)
                if not self._changed.wait(deadline.remaining()):
                    raise deadline.error()

    def abort(self, reason: str) -> None:
        """Wake whoever waits for an event with the `reason` why it will not come. May be called from any thread."""
        with self._changed:
            self._reason = self._reason or reason
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the connection; QEMU may be gone already."""
        if self._pump is not None:
            self._pump.cancel()
        try:
            self._loop.start(self._disconnect()).result(COMMAND_TIMEOUT)
        finally:
            self._record.close()

    async def _disconnect(self) -> None:
        try:
            await self._client.disconnect()
        except (QMPError, OSError, EOFError, ValueError):
            return  # that QEMU went first, if need be babbling, is what we wanted

    async def _collect(self) -> None:
        async for message in self._listener:
            event = _event(message)
            if len(self.events) < _EVENTS_KEPT:
                self._note({"event": event.name, "data": event.data, "at": event.time})
                with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()
            self._on_event(event)

    def _note(self, fields: Mapping[str, Any]) -> None:
        self._record.write((json.dumps({"time": time.time(), **fields}) + "\n").encode())


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _event(message: Message) -> Event:
    fields: Mapping[str, Any] = message
    stamp = fields.get("timestamp", {})
    seconds = stamp.get("seconds", 0) + stamp.get("microseconds", 0) / 1e6
    return Event(fields["event"], seconds, fields.get("data", {}))
