# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Python device costs: its configuration space and its BARs through QEMU, and its way into a running guest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.device.capabilities import SIOV
from harness.device.siov import REGISTERS, SiovDevice
from harness.errors import GuestFailure
from harness.machine import lane as lanes
from harness.machine import record
from harness.machine.spec import Spec
from harness.machine.start import Starter

_READS = 5000
"""Reads of which one value is the outcome: half a second."""


@dataclass(frozen=True)
class Pace:
    """How quick a device answers through QEMU: configuration reads a second, and seconds for each read of a BAR."""

    config_reads_per_s: float
    bar_reads: list[float]


def pace(qemu: Path, count: int) -> Iterator[Pace]:
    """Measure `count` times, one read after another, over qtest."""
    device = SiovDevice()
    with lanes.running(qemu, [device]) as lane:
        function = lane.function()
        at = device.config.find(SIOV)
        bar = lane.board.place_bars(function)[REGISTERS]
        for _ in range(count):
            started = time.perf_counter()
            for _ in range(_READS):
                function.read(at)
            rate = _READS / (time.perf_counter() - started)
            reads = []
            for _ in range(_READS):
                started = time.perf_counter()
                lane.qtest.read(bar)
                reads.append(time.perf_counter() - started)
            yield Pace(rate, reads)


def arrivals(starter: Starter, spec: Spec, directory: Path, count: int) -> Iterator[float]:
    """Plug a SIOV device into `count` clones of a machine, and give the seconds until SSH showed its capability."""
    for _ in range(count):
        device = SiovDevice()
        with starter.running(spec, record.folder_for(directory, "plug-siov")) as machine:
            started = time.monotonic()
            seen = machine.attach(device, "rp1").config(device.config.find(SIOV), 4)
            seconds = time.monotonic() - started
        if int.from_bytes(seen[:2], "little") != SIOV:
            raise GuestFailure(f"the guest sees {seen.hex()} where the SIOV capability is")
        yield seconds
