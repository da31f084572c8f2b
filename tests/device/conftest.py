# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models through a real QEMU, with no guest in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from lane_helpers import StartLane

from harness.device.device import Device
from harness.machine import lane as lanes
from harness.machine.lane import Lane
from harness.pytest_plugin.options import RUN


@pytest.fixture(scope="session")
def qemu(request: pytest.FixtureRequest) -> Path:
    """The QEMU of the run's settings."""
    return request.config.stash[RUN].store.qemu().path


@pytest.fixture
def start(qemu: Path) -> Iterator[StartLane]:
    """Starts a QEMU with devices, each behind a root port of its own."""
    yield from _starting(qemu)


@pytest.fixture(scope="module")
def start_shared(qemu: Path) -> Iterator[StartLane]:
    """Starts a QEMU that the tests of a module share: for tests that only look."""
    yield from _starting(qemu)


def _starting(qemu: Path) -> Iterator[StartLane]:
    with ExitStack() as stack:

        def start_one(*devices: Device, overlays: Sequence[Mapping[str, object]] = (), **properties: object) -> Lane:
            return stack.enter_context(lanes.running(qemu, devices, overlays=overlays, **properties))

        yield start_one
