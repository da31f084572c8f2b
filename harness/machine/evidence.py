# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine was like at the moment when something went wrong: for those who look later, never for a verdict.

A guest that answers is asked. Of one that does not, its kernel's log and blocked tasks are read from outside, and QEMU
says what the CPUs, the interrupt controllers and the PCI functions are like.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import DeadlineExpired
from harness.errors import GuestFailure, HarnessError
from harness.qemu.qmp import CommandRefused
from harness.text import clipped, printable

if TYPE_CHECKING:
    from harness.guest.introspect.state import KernelState
    from harness.machine.machine import Machine

_log = logging.getLogger(__name__)

_ASK_TIMEOUT = 15.0
"""Seconds for the guest to answer one question: `lspci -xxxx` over 30 functions takes 3 s under emulation."""
_OF_GUEST = {"dmesg.txt": ["dmesg"], "lspci.txt": ["lspci", "-nnvvxxxx"]}
_OF_QEMU = {
    "lspci.txt": ("info pci",),
    "cpus.txt": ("info cpus", "info registers -a", "info lapic 0", "info pic"),
}
"""Commands of QEMU's monitor (hmp-commands-info.hx) that say what a silent guest cannot."""
_OF_KERNEL: dict[str, Callable[[KernelState], Iterable[object]]] = {
    "dmesg.txt": lambda state: state.printk(),
    "tasks.txt": lambda state: state.blocked_tasks() or ["no task is blocked"],
}
_REFUSALS = (GuestFailure, HarnessError, CommandRefused, DeadlineExpired, OSError)
_LIMIT = 4 * 1024 * 1024
"""Characters of one file."""


def gather(machine: Machine, folder: Path) -> None:
    """Write what can be learnt of a machine into `folder`; what cannot is said there, and raised never."""
    if machine.debug_socket is None:
        return  # it was never started: the base machine that it was to be cloned from did not come up
    notes = _Notes(folder)
    if _is_asked(machine, notes) or machine.health.exit is not None:
        return
    for name, commands in _OF_QEMU.items():
        notes.write(name, partial(_of_qemu, machine, commands))
    for name, read in _OF_KERNEL.items():
        notes.write(name, partial(_of_kernel, machine, read))


def _is_asked(machine: Machine, notes: _Notes) -> bool:
    """Ask the guest, and tell whether it answered; one that is silent once is not asked again."""
    if machine.loss is not None or not machine.health.ready:
        return False
    return all(notes.write(name, partial(_of_guest, machine, command)) for name, command in _OF_GUEST.items())


def _of_guest(machine: Machine, command: list[str]) -> str:
    return machine.guest.run(command, timeout=_ASK_TIMEOUT).stdout


def _of_qemu(machine: Machine, commands: tuple[str, ...]) -> str:
    told = [machine.qmp.execute("human-monitor-command", command_line=one) for one in commands]
    return "\n".join(f"(qemu) {one}\n{said}" for one, said in zip(commands, told, strict=True))


def _of_kernel(machine: Machine, read: Callable[[KernelState], Iterable[object]]) -> str:
    """Read something from the guest's memory, where its kernel has debug information."""
    with machine.introspect(paused=True) as state:
        return "\n".join(map(str, read(state)))


class _Notes:
    """The files of one folder: each is written by the first that has something to tell."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: set[str] = set()

    def write(self, name: str, tell: Callable[[], str]) -> bool:
        """Write what is told, or else why it cannot be; says whether the file tells something."""
        if name in self._told:
            return True
        try:
            text = tell()
            self._told.add(name)
        except _REFUSALS as error:
            text = f"(not to be had: {error})"
        try:
            (self._folder / name).write_text(clipped(printable(text), _LIMIT) + "\n", encoding="utf-8")
        except OSError as error:
            _log.warning("%s: %s", self._folder / name, error.strerror)
        return name in self._told
