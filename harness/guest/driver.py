# SPDX-License-Identifier: GPL-2.0-or-later
"""Drivers of PCI functions in a guest, as its sysfs shows them. Writes raise `GuestErrno`."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from harness.guest import agent
from harness.guest.agent import Agent, Call
from harness.guest.pci import Function

_DRIVERS = "/sys/bus/pci/drivers"


@dataclass(frozen=True)
class Driver:
    """A driver on the guest's PCI bus, by the name that its folder in sysfs has."""

    agent: Agent
    name: str

    @property
    def path(self) -> str:
        """Its folder in sysfs."""
        return f"{_DRIVERS}/{self.name}"

    @property
    def exists(self) -> bool:
        """Whether it is registered."""
        answer = self.agent.call(agent.names(self.path))
        if answer.errno == errno.ENOENT:
            return False
        return bool(answer.value())

    def binding(self, function: Function) -> Call:
        """Give the call that offers it a function, to be done with others or meanwhile."""
        return agent.write(f"{self.path}/bind", str(function.bdf).encode())

    def new_id(self, vendor: int, device: int) -> None:
        """Have it take functions with these IDs too; it is offered all that have no driver, at once."""
        self._write("new_id", f"{vendor:04x} {device:04x}")

    def remove_id(self, vendor: int, device: int) -> None:
        """Take back what `new_id` gave; functions that are bound stay so."""
        self._write("remove_id", f"{vendor:04x} {device:04x}")

    def _write(self, attribute: str, value: str) -> None:
        self.agent.call(agent.write(f"{self.path}/{attribute}", value.encode())).value()
