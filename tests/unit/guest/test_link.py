# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's link: its greeting is whole or waited for, and received again, now or in a clone."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.guest.link import Link
from harness.guest.ssh import GuestLost

GREETING = b"SSH-2.0-dropbear_2025.89\r\n" + struct.pack(">I", 20) + b"x" * 20


def soon(seconds: float = 20) -> Deadline:
    return Deadline(seconds, "the guest's first SSH session")


class Guest(socket.socket):
    """The guest's end of a connection; `link` is the harness's."""

    def __init__(self) -> None:
        ours, self.ours = socket.socketpair()
        super().__init__(fileno=ours.detach())


@pytest.fixture
def guest() -> Iterator[Guest]:
    """Make the guest's end."""
    with Guest() as made:
        yield made


def link(guest: Guest, said: bytes = b"") -> Link:
    return Link(guest.ours, said)


def test_a_greeting_that_comes_in_pieces_is_waited_for_and_received_again(guest: Guest) -> None:
    def greet() -> None:
        for byte in range(0, len(GREETING), 7):
            time.sleep(0.001)
            guest.sendall(GREETING[byte : byte + 7])

    thread = threading.Thread(target=greet)
    thread.start()
    with link(guest) as made:
        assert made.greeting(soon()) == GREETING
        assert made.greeting(soon()) == GREETING, "asked for again"
        thread.join()
        guest.sendall(b"more")
        assert made.recv(10) + made.recv(1000) == GREETING
        assert made.recv(1000) == b"more"


def test_a_clone_receives_what_was_said_before(guest: Guest) -> None:
    guest.sendall(b"new")
    with link(guest, GREETING) as made:
        assert made.greeting(soon()) == GREETING
        assert made.recv(4) == b"SSH-"
        assert made.recv(1000) == GREETING[4:]
        assert made.recv(1000) == b"new"


@pytest.mark.parametrize("said", [b"", GREETING[:-1], b"SSH-2.0-x\r\n", b"SSH-2.0-x"])
def test_what_does_not_come_to_its_end_is_waited_for_until_the_deadline(guest: Guest, said: bytes) -> None:
    guest.sendall(said)
    with link(guest) as made, pytest.raises(DeadlineExpired):
        made.greeting(soon(0.05))


def test_a_guest_that_hangs_up_or_talks_without_end_is_lost(guest: Guest) -> None:
    with link(guest) as made:
        guest.sendall(b"SSH-")
        guest.shutdown(socket.SHUT_WR)
        with pytest.raises(GuestLost, match="greets with b'SSH-'"):
            made.greeting(soon())


def test_no_end_of_a_greeting_is_waited_for_without_end(guest: Guest) -> None:
    def talk() -> None:
        try:
            while True:
                guest.sendall(b"\x1b[31m" * 1000)
        except OSError:
            return

    thread = threading.Thread(target=talk)
    thread.start()
    with link(guest) as made, pytest.raises(GuestLost) as caught:
        made.greeting(soon())
    assert str(caught.value).isprintable()
    thread.join()


def test_whoever_waits_wakes_when_the_machine_is_lost(guest: Guest) -> None:
    with link(guest) as made:
        threading.Timer(0.05, made.abort).start()
        with pytest.raises(GuestLost):
            made.greeting(soon())
        made.abort()
