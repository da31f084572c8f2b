# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's kernel has in mind, read from outside while it runs, stands still or has died."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from drgn import Program

from harness.errors import UsageError, unknown
from harness.guest.introspect import program
from harness.guest.introspect.buses import PciBus, buses
from harness.guest.introspect.drivers import PciDriver, drivers
from harness.guest.introspect.failures import KernelNonsense
from harness.guest.introspect.functions import PciFunction, functions
from harness.guest.introspect.log import printk
from harness.guest.introspect.memory import reading
from harness.guest.introspect.tasks import Task, blocked_tasks

_ATTEMPTS = 3
"""How often something is read before it counts as nonsense: a kernel that runs may change it under our eyes."""

Found = TypeVar("Found")


class KernelState:
    """The kernel of one guest. Nothing is kept: every call reads anew.

    Every call raises `KernelNonsense` where the memory makes no sense, and `CannotIntrospect` where the kernel is of
    another make. A guest that runs goes on meanwhile, so two things that are read need not be of one moment.
    """

    def __init__(self, of: Program) -> None:
        self._program = of

    def functions(self) -> list[PciFunction]:
        """Give every PCI function, in the order of their addresses."""
        return self._read("PCI functions", functions)

    def buses(self) -> list[PciBus]:
        """Give every PCI bus, each after the one it hangs below."""
        return self._read("PCI buses", buses)

    def drivers(self) -> list[PciDriver]:
        """Give every driver that is registered on the PCI bus, by name."""
        return self._read("PCI drivers", drivers)

    def sriov_configure(self, driver: str) -> str | None:
        """Give the symbol behind a driver's `sriov_configure`, by the driver's name in sysfs; None where it has none.

        Raises `UsageError` for a driver that is not registered.
        """
        known = {one.name: one.sriov_configure for one in self.drivers()}
        if driver not in known:
            raise UsageError(unknown("PCI driver", driver, known))
        return known[driver]

    def blocked_tasks(self) -> list[Task]:
        """Give every task in uninterruptible sleep (state D), with its stack."""
        return self._read("tasks", blocked_tasks)

    def printk(self) -> list[str]:
        """Give the lines of the kernel's log, all levels, with their time stamps, as dmesg prints them."""
        return self._read("log", printk)

    def _read(self, what: str, read: Callable[[Program], Found]) -> Found:
        for _ in range(_ATTEMPTS - 1):
            try:
                with reading(what):
                    return read(self._program)
            except KernelNonsense:
                continue
        with reading(what):
            return read(self._program)


@contextmanager
def attached(at: Path, vmlinux: Path) -> Iterator[KernelState]:
    """Look into the guest whose QEMU has a free QMP socket at `at`; raises as `program.attached`.

    The socket is taken as long as the block lasts. `vmlinux` is the kernel that runs, with its debug information.
    """
    with program.attached(at, vmlinux) as attached_to:
        yield KernelState(attached_to)
