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
SLEEPERS = "for n in 1 2 3 4; do while :; do usleep 200; done & done"
"""Whoever sleeps so briefly has the local APIC's timer written, at an address behind all BARs."""


@pytest.mark.machine("igb-sriov")
def test_accesses_reach_their_device_while_bars_come_and_go(machine: Machine, guest: Guest, pf: Function) -> None:
    if pf.driver is not None:
        pf.unbind()
    guest.run(f"({SLEEPERS}) > /dev/null 2>&1 < /dev/null &", check=True)
    mark = guest.log_mark()
    address = f"o /4 0xcf8 {1 << 31 | pf.bdf.routing_id << 8 | COMMAND:#x}"  # PCI's own way to configuration space
    for value in (0, MEMORY_AND_MASTER) * CHANGES:
        for line in (address, f"o /2 0xcfc {value:#x}"):
            machine.qmp.execute("human-monitor-command", command_line=line)
    assert not [line for line in guest.messages(mark) if "stall" in line or "timer wakeup" in line]
