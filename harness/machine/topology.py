# SPDX-License-Identifier: GPL-2.0-or-later
"""Where QEMU has its PCI devices, by its own account."""

from __future__ import annotations

from typing import Any

from harness.guest.pci import Bdf
from harness.qemu.qmp import Monitor


def addresses(qmp: Monitor) -> dict[str, Bdf]:
    """Map the QEMU ids of all PCI devices to their addresses."""
    return _of(qmp.execute("query-pci"))


def _of(buses: list[dict[str, Any]]) -> dict[str, Bdf]:
    found: dict[str, Bdf] = {}
    for bus in buses:
        for device in bus["devices"]:
            if device.get("qdev_id"):
                found[device["qdev_id"]] = Bdf(0, device["bus"], device["slot"], device["function"])
            bridge = device.get("pci_bridge")
            if bridge and "devices" in bridge:  # bridges hold further buses
                found |= _of([{"devices": bridge["devices"]}])
    return found
