# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a cold boot takes: from the start of QEMU to the result of the first SSH command."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.machine.spec import Spec
from harness.machine.start import Starter


def seconds(starter: Starter, spec: Spec, directory: Path, count: int) -> Iterator[float]:
    """Boot `count` times and give each time in seconds."""
    for number in range(count):
        folder = directory / f"boot-{number + 1}"
        folder.mkdir(parents=True)
        started = time.monotonic()
        with starter.running(spec, folder, cold=True) as machine:
            machine.guest.run("true", check=True)
            yield time.monotonic() - started


def result(spec: Spec, times: list[float]) -> dict[str, Any]:
    """Give what `harness bench boot --json` prints: the median in seconds, all times, and of what machine."""
    return {"boot_to_ssh_s": statistics.median(times), "times_s": times, "machine": spec.about()}
