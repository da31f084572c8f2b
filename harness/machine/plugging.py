# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that come and go while the machine runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.deadline import Deadline
from harness.guest import arrival
from harness.guest.guest import Guest
from harness.guest.pci import Bdf
from harness.guest.uevents import Uevents
from harness.machine import topology
from harness.qemu.hotplug import Plug
from harness.qemu.qmp import Event, Monitor


def plug(
    qmp: Monitor, guest: Guest, plugs: Iterable[Plug], deadline: Deadline, done: Callable[[str], None] = lambda _: None
) -> None:
    """Plug, one after another, and call `done` with each name when the guest's kernel has finished with it.

    Raises `CommandRefused` where QEMU refuses, `DeadlineExpired`, and what the guest does wrong.
    """
    plugs = list(plugs)
    if not plugs:
        return
    uevents = Uevents(guest.session)
    waiting: list[Bdf] = []
    try:
        for one in plugs:
            qmp.command(one.command, one.properties)
            if one.is_device and not one.is_vf:
                waiting += _address(qmp, one.name)
            if waiting and waiting[-1].function == 0:  # a slot's functions come to be seen with its function 0
                for bdf in waiting:
                    arrival.wait_finished(guest, uevents, bdf, deadline)
                waiting.clear()
            done(one.name)
    finally:
        uevents.close()


def unplug(qmp: Monitor, name: str, deadline: Deadline) -> None:
    """Ask the guest to let go of a device, and wait until it is gone.

    Raises `CommandRefused` where QEMU has no such device, `DeadlineExpired` where the guest does not let go of it.
    """

    def gone(event: Event) -> bool:
        return event.data.get("device") == name  # parts of a device, which have no id, are told of too

    since = len(qmp.events)
    qmp.execute("device_del", id=name)
    qmp.wait_event("DEVICE_DELETED", deadline, matching=gone, since=since)


def _address(qmp: Monitor, name: str) -> list[Bdf]:
    """Give a device's address, where it is one on a PCI bus."""
    found = topology.addresses(qmp).get(name)
    return [] if found is None else [found]
