# SPDX-License-Identifier: GPL-2.0-or-later
"""A memory map that changes beneath running CPUs: QEMU 10.2 as released aborts within seconds, or loses timers."""

from __future__ import annotations

import pytest

from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

CHANGES = 600
"""QEMU 10.2.2 without our patch was gone after 1 to 450."""
COMMAND, MEMORY_AND_MASTER = 0x04, 0x6
SLEEPERS = 4
SLEEPER = "echo >> /run/slept-$0; while usleep 200; do echo >> /run/slept-$0; done > /dev/null 2>&1 < /dev/null &"
"""Adds a byte to a file whenever it has slept: so briefly that the local APIC's timer is written, behind all BARs."""


@pytest.mark.machine("igb-sriov")
def test_accesses_reach_their_device_while_bars_come_and_go(machine: Machine, guest: Guest, pf: Function) -> None:
    if pf.driver is not None:
        pf.unbind()
    for number in range(SLEEPERS):
        guest.run(["sh", "-c", SLEEPER, str(number)], check=True)
    for value in (0, MEMORY_AND_MASTER) * CHANGES:
        write_command(machine, pf, value)
    write_command(machine, pf, 0)
    assert pf.config(COMMAND, 2) == b"\0\0"  # that is what has moved the BARs
    before = slept(guest)
    guest.run("sleep 1", check=True)
    assert all(now > then for now, then in zip(slept(guest), before, strict=True))


def write_command(machine: Machine, function: Function, value: int) -> None:
    """Write the Command register from outside, by PCI's own way to configuration space."""
    address = 1 << 31 | function.bdf.routing_id << 8 | COMMAND
    for line in (f"o /4 0xcf8 {address:#x}", f"o /2 0xcfc {value:#x}"):
        assert machine.qmp.execute("human-monitor-command", command_line=line) == ""


def slept(guest: Guest) -> list[int]:
    """Give how often each of the sleepers has slept."""
    return [int(guest.run(f"wc -c < /run/slept-{number}", check=True).stdout) for number in range(SLEEPERS)]
