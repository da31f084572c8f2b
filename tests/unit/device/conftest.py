# SPDX-License-Identifier: GPL-2.0-or-later
"""A small device, a server of it, and a client: at the end of each test, nothing of them may be left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from toy_device import Toy, enable
from vfio_client import Client, Serving, closed, descriptors

from harness.device.device import Device
from harness.device.vfio_user.server import Server

# How long an example takes says more of the machine than of the code.
settings.register_profile("device", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("device")


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that what the block opens and starts is closed and ended with it."""
    fds, threads = descriptors(), set(threading.enumerate())
    yield
    assert descriptors() == fds
    assert set(threading.enumerate()) == threads


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """Serve devices, each at a socket of its own."""
    with nothing_left(), ExitStack() as stack:

        def serve(device: Device, *, memory_files: bool = True) -> Server:
            number = len(list(tmp_path.glob("*.sock")))
            server = Server(device, tmp_path / f"{number}.sock", memory_files=memory_files)
            stack.callback(closed, server)
            return server

        yield serve


@pytest.fixture
def toy() -> Toy:
    """Make a small device that does nothing by itself; bus mastering and MSI-X are enabled."""
    made = Toy()
    enable(made)
    return made


@pytest.fixture
def server(toy: Toy, serving: Serving) -> Server:
    """Serve the toy."""
    return serving(toy)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """Connect to the server of the toy."""
    with Client(server.path) as made:
        yield made
