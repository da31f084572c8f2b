# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of device models have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.device.device import Device
from harness.machine.lane import Lane


class StartLane(Protocol):
    """Starts a QEMU with devices, which ends with the test; `overlays` and `properties` as `lane.running`."""

    def __call__(
        self, *devices: Device, overlays: Sequence[Mapping[str, object]] = (), **properties: object
    ) -> Lane: ...


def fresh(lane: Lane) -> Lane:
    """Give a shared QEMU whose devices are as after power-on, without faults, their logs empty."""
    for device in lane.devices:
        device.faults.clear()
        device.reset()
        device.log.clear()
    return lane
