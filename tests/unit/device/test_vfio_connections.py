# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to a vfio-user server: their ends, their misuse, and that nothing is left of them."""

from __future__ import annotations

import errno
import resource
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from toy_device import BAR, SCRATCH, Toy, enable
from vfio_client import (
    CONFIG,
    EVENTFD,
    TRIGGER,
    Client,
    Event,
    Lent,
    closed,
    descriptors,
    file_of_memory,
    message,
)

from harness.device.log import Kind
from harness.device.vfio_user.server import Server
from harness.device.vfio_user.wire import HEADER, MAX_FDS, MAX_MESSAGE, Command
from harness.errors import UsageError

VENDOR_ID = struct.pack("<QII", 0, CONFIG, 2)


def is_well(server: Server) -> bool:
    """Tell whether the server takes a new client."""
    with Client(server.path) as client:
        return client.read(CONFIG, 0, 2) == b"\xf4\x1a"


def test_a_client_may_come_again_and_finds_the_device_as_it_was_left(server: Server, toy: Toy) -> None:
    for number in range(5):
        with Client(server.path) as client:
            assert client.read(BAR, SCRATCH, 1) == bytes([number])
            client.write(BAR, SCRATCH, bytes([number + 1]))
    assert [entry.kind for entry in toy.log].count(Kind.CONNECTED) == 5


def test_a_second_client_waits_for_the_end_of_the_first(server: Server) -> None:
    with Client(server.path) as first, Client(server.path, version=None) as second:
        number = second.send(Command.VERSION, b"\0\0\0\0")
        assert first.read(CONFIG, 0, 2) == b"\xf4\x1a"
        first.close()
        said = second.receive()
        assert said is not None
        assert said.id == number


def test_a_connection_that_ends_leaves_neither_memory_nor_events(server: Server, toy: Toy) -> None:
    with file_of_memory() as ram, Event() as event:
        before = descriptors()
        with Client(server.path) as client:
            assert client.map(0, 4096, fds=[ram]) == 0
            assert client.set_irqs(EVENTFD | TRIGGER, 0, 1, fds=[event.fd]) == 0
            assert len(descriptors()) == len(before) + 4
        with Client(server.path, version=None):
            toy.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED)
        assert is_well(server)
    with Client(server.path), file_of_memory(), Event():
        assert len(descriptors()) == len(before) + 2


@pytest.mark.parametrize("count", [1, 8, 15])
def test_a_header_that_is_cut_short_ends_the_connection(server: Server, count: int) -> None:
    with Client(server.path) as client, Lent() as lent:
        client.say(message(Command.REGION_READ, VENDOR_ID)[:count], [lent.fd])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_ended()
        assert lent.is_closed()
    assert is_well(server)


@pytest.mark.parametrize("count", [HEADER.size, HEADER.size + 1, HEADER.size + 15])
def test_a_message_that_is_cut_short_ends_the_connection_and_its_descriptors_are_closed(
    server: Server, count: int
) -> None:
    with Client(server.path) as client, Lent() as lent:
        client.say(message(Command.REGION_READ, VENDOR_ID)[:count], [lent.fd])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_ended()
        assert lent.is_closed()
    assert is_well(server)


def test_a_client_that_breaks_off_inside_of_a_message_leaves_no_descriptor(server: Server) -> None:
    with Lent() as lent:
        with Client(server.path) as client:
            client.say(message(Command.DMA_MAP, bytes(32))[:20], [lent.fd])
        assert lent.is_closed()
    assert is_well(server)


@pytest.mark.parametrize("size", [0, 1, 15, MAX_MESSAGE + 1, 1 << 31, 0xFFFFFFFF])
def test_a_message_of_no_sound_size_ends_the_connection(server: Server, toy: Toy, size: int) -> None:
    with Client(server.path) as client, Lent() as lent:
        client.say(message(Command.DEVICE_RESET, size=size), [lent.fd])
        assert client.is_ended()
        assert lent.is_closed()
    assert toy.resets == []
    assert is_well(server)


def test_a_message_of_the_largest_size_is_taken(server: Server) -> None:
    with Client(server.path) as client:
        assert client.ask(Command.DEVICE_RESET, bytes(MAX_MESSAGE - HEADER.size)).error == 0


@pytest.mark.parametrize("kind", range(2, 16))
def test_a_message_that_is_neither_command_nor_answer_ends_the_connection(server: Server, kind: int) -> None:
    with Client(server.path) as client, Lent() as lent:
        client.say(message(Command.DEVICE_RESET, flags=kind), [lent.fd])
        assert client.is_ended()
        assert lent.is_closed()
    assert is_well(server)


@pytest.mark.parametrize("version", [None, b"\0\0\0\0"])
def test_an_answer_to_nothing_ends_the_connection(server: Server, version: bytes | None) -> None:
    with Client(server.path, version=version) as client, Lent() as lent:
        client.say(message(Command.DMA_WRITE, bytes(16), flags=1, id_=5), [lent.fd])
        assert client.is_ended()
        assert lent.is_closed()
    assert is_well(server)


@pytest.mark.parametrize("count", [MAX_FDS + 1, 100, 253])
def test_more_descriptors_than_are_taken_end_the_connection_and_are_closed(server: Server, count: int) -> None:
    with Client(server.path) as client, Lent() as lent:
        client.say(message(Command.DEVICE_RESET), [lent.fd] * count)
        assert client.is_ended()
        assert lent.is_closed()
    assert is_well(server)


def test_descriptors_are_counted_over_all_parts_of_a_message(server: Server) -> None:
    with Client(server.path) as client, Lent() as lent:
        whole = message(Command.DMA_MAP, bytes(32))
        for place in range(0, len(whole), 16):
            client.say(whole[place : place + 16], [lent.fd] * 4)
        assert client.is_ended()
        assert lent.is_closed()
    assert is_well(server)


def test_as_many_descriptors_as_are_taken_are_taken(server: Server) -> None:
    with Client(server.path) as client, Lent() as lent:
        assert client.ask(Command.DEVICE_RESET, fds=[lent.fd] * MAX_FDS).error == 0
        assert lent.is_closed()


def test_descriptors_belong_to_the_message_with_which_they_came(server: Server) -> None:
    with Client(server.path) as client, file_of_memory() as ram:
        body = struct.pack("<IIQQQ", 32, 3, 0, 0, 4096)
        client.say(message(Command.DEVICE_RESET, id_=1))
        client.say(message(Command.DMA_MAP, body, id_=2), [ram])
        client.say(message(Command.DEVICE_RESET, id_=3))
        for number in (1, 2, 3):
            said = client.receive()
            assert said is not None
            assert (said.id, said.error) == (number, 0)
        enable(server.device)
        assert server.device.dma_read(0, 1) == b"\0"


def test_a_client_that_says_nothing_and_leaves_harms_nothing(server: Server, toy: Toy) -> None:
    mark = toy.log.mark()
    for _ in range(20):
        Client(server.path, version=None).close()
    assert is_well(server)
    assert [entry.kind for entry in toy.log.entries(since=mark)][:2] == [Kind.CONNECTED, Kind.READ]


def test_a_client_that_leaves_before_its_answer_harms_nothing(server: Server) -> None:
    for _ in range(20):
        with Client(server.path) as client:
            for _ in range(5):
                client.send(Command.REGION_READ, struct.pack("<QII", 0, CONFIG, 4096))
    assert is_well(server)


def test_the_device_can_break_the_connection(server: Server, toy: Toy) -> None:
    with Client(server.path) as client:
        toy.disconnect()
        assert client.is_ended()
    assert is_well(server)


def test_closing_ends_the_connection_and_the_socket(server: Server, toy: Toy) -> None:
    with Client(server.path) as client:
        closed(server)
        assert client.is_ended()
    assert not server.path.exists()
    assert not toy.is_connected
    closed(server)


def test_closing_does_not_wait_for_the_rest_of_a_message(server: Server) -> None:
    with Client(server.path) as client:
        client.say(message(Command.REGION_WRITE, size=MAX_MESSAGE) + bytes(1000))
        closed(server)
        assert client.is_ended()


def test_closing_does_not_wait_for_a_client_that_does_not_read(server: Server) -> None:
    with Client(server.path) as client:
        client.socket.setblocking(False)  # noqa: FBT003
        request = message(Command.REGION_READ, struct.pack("<QII", 0, CONFIG, 4096))
        with suppress(BlockingIOError):
            while True:
                client.socket.send(request)
        closed(server)


def test_closing_does_not_wait_for_a_delayed_answer(server: Server, toy: Toy) -> None:
    began = threading.Event()
    toy.bars[BAR].on_read("scratch", lambda _: began.set())
    toy.faults.delay(600)
    with Client(server.path) as client:
        client.send(Command.REGION_READ, struct.pack("<QII", 0, BAR, 4))
        assert began.wait(20)
        closed(server)


def test_closing_does_not_wait_for_dma(server: Server, toy: Toy) -> None:
    with Client(server.path) as client:
        assert client.map(0, 4096) == 0
        for _ in range(3):
            toy.later(lambda: toy.dma_write(0, b"never answered"))
        client.request()
        closed(server)
    assert toy.broken is None


def test_closing_ends_clients_that_are_waiting_to_be_served(server: Server) -> None:
    with Client(server.path), Client(server.path, version=None) as waiting:
        waiting.send(Command.VERSION, b"\0\0\0\0")
        closed(server)
        assert waiting.is_ended()


def test_a_device_can_be_served_again_when_its_server_is_closed(server: Server, toy: Toy) -> None:
    closed(server)
    with Server(toy, server.path) as again:
        assert is_well(again)


def test_waiting_ends_when_the_server_is_closed(server: Server) -> None:
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    closed(server)
    waiting.join(20)
    assert not waiting.is_alive()


@pytest.mark.parametrize("what", ["file", "socket"])
def test_a_path_that_is_taken_is_refused_and_left_alone(server: Server, tmp_path: Path, what: str) -> None:
    path = server.path if what == "socket" else tmp_path / "file"
    if what == "file":
        path.write_text("mine")
    with pytest.raises(UsageError, match=f"\\Asocket {path}: Address already in use\\Z"):
        Server(Toy(), path)
    assert path.exists()
    assert is_well(server)


@pytest.mark.parametrize(
    ("name", "why"),
    [("x" * 200, "AF_UNIX path too long"), ("none/there.sock", "No such file or directory"), ("\0", ".*")],
)
def test_a_path_at_which_no_socket_can_be_is_refused_in_one_line(tmp_path: Path, name: str, why: str) -> None:
    before = descriptors()
    with pytest.raises(UsageError, match=f"\\Asocket .*: {why}\\Z"):
        Server(Toy(), tmp_path / name)
    assert descriptors() == before


def test_a_server_that_runs_out_of_descriptors_says_so(server: Server, toy: Toy) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    connection = Client(server.path)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        connection.close()
        waiting.join(20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    closed(server)
    waiting.join()
    assert isinstance(toy.broken, OSError)
    assert toy.broken.errno == errno.EMFILE
