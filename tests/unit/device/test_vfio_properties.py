# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a client says, the server is there for the next one."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vfio_client import CONFIG, Client, closed, descriptors
from vfio_messages import VERSION, Spoken, descriptors_of_all_kinds, drawn

from harness.device.siov import SiovDevice
from harness.device.vfio_user.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve one device to all examples."""
    made = Server(SiovDevice(), tmp_path_factory.mktemp("server") / "sock")
    yield made
    closed(made)


@pytest.fixture(scope="module")
def fds() -> Iterator[Mapping[str, int]]:
    """Open descriptors to send."""
    with descriptors_of_all_kinds() as made:
        yield made


@pytest.fixture(scope="module")
def usual(server: Server, fds: Mapping[str, int]) -> int:
    """Count the descriptors while a client is connected that has given none: those of the one before are closed."""
    assert fds
    with Client(server.path):
        return len(descriptors())


def say(path: Path, spoken: Sequence[Spoken], fds: Mapping[str, int]) -> None:
    """Say it all on a connection of its own, and wait until the server has heard it or ends the connection."""
    with Client(path, version=None) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for data, kinds in spoken:
                client.say(data, [fds[kind] for kind in kinds])
            client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while client.socket.recv(1 << 16):
                pass


def check(server: Server, usual: int) -> None:
    """Check that a new client is served, that nothing is left of the old one, and that no exception was raised."""
    with Client(server.path) as client:
        assert client.read(CONFIG, 0, 2) == struct.pack("<H", server.device.identity.vendor_id)
        assert len(descriptors()) == usual
    assert server.device.broken is None


@settings(max_examples=80)
@given(
    data=st.binary(max_size=200), agreed=st.booleans(), kinds=st.lists(st.sampled_from(["memory", "event"]), max_size=9)
)
def test_any_bytes_leave_the_server_alive(
    server: Server,
    fds: Mapping[str, int],
    usual: int,
    data: bytes,
    agreed: bool,
    kinds: list[str],
) -> None:
    say(server.path, [Spoken(VERSION)] * agreed + [Spoken(data, tuple(kinds))] * bool(data), fds)
    check(server, usual)


@settings(max_examples=80)
@given(random=st.randoms(use_true_random=False), count=st.integers(1, 20))
def test_any_messages_leave_the_server_alive(
    server: Server, fds: Mapping[str, int], usual: int, random: Random, count: int
) -> None:
    say(server.path, [Spoken(VERSION), *(drawn(random) for _ in range(count))], fds)
    check(server, usual)


@settings(max_examples=40)
@given(
    st.integers(0, 0xFFFF), st.integers(0, 20), st.integers(0, 300), st.integers(0, 0xFFFFFFFF), st.binary(max_size=64)
)
def test_any_header_leaves_the_server_alive(
    server: Server, fds: Mapping[str, int], usual: int, id_: int, command: int, size: int, flags: int, body: bytes
) -> None:
    say(server.path, [Spoken(VERSION), Spoken(struct.pack("<HHIII", id_, command, size, flags, 0) + body)], fds)
    check(server, usual)
