# SPDX-License-Identifier: GPL-2.0-or-later
"""Logging in to a guest that is not ready, not the one expected or not sane."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sshd import Meeting, Sshd, key_of

from harness.deadline import Deadline, DeadlineExpired
from harness.guest import ssh
from harness.guest.ssh import GuestLost, Session
from harness.provision.keys import Keys


def within(seconds: float = 30) -> Deadline:
    return Deadline(seconds, "the guest's first SSH session")


@pytest.fixture
def session(keys: Keys, log: Path) -> Iterator[Session]:
    """Make a session that is not connected."""
    made = Session(keys, log)
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the place of the session's log."""
    return tmp_path / "ssh.log"


@contextmanager
def quickly() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 10


def saying(data: bytes) -> Meeting:
    return lambda connection: connection.sendall(data)


def garbled_handshake(connection: socket.socket) -> None:
    packet = b"\x14" + b"\0" * 16 + struct.pack(">I", 4) + b"\xff\xfe\xfd\xfc" + b"\0" * 60
    padding = 8 - (len(packet) + 5) % 8 + 8
    connection.sendall(b"SSH-2.0-x\r\n" + struct.pack(">IB", len(packet) + padding + 1, padding) + packet)
    connection.sendall(b"\0" * padding)
    silent(connection)


def silent(connection: socket.socket) -> None:
    connection.settimeout(20)
    while connection.recv(4096):
        pass


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 4096)


@pytest.mark.parametrize(
    "meeting",
    [
        saying(b""),
        saying(b"HTTP/1.1 200 OK\r\n"),
        saying(b"\x1b]0;owned\x07\r\n"),
        saying(b"SSH-2.0-x\r\n\0\0\0\0"),
        saying(b"SSH-1.0-x\r\n"),
        saying(b"\xff\xfe\r\n" * 200),
        garbled_handshake,
    ],
)
def test_a_guest_that_is_not_ready_or_not_sane_is_tried_again(
    sshd: Sshd, session: Session, log: Path, meeting: Meeting
) -> None:
    sshd.meetings += [meeting, meeting]
    with quickly():
        session.connect(sshd.port, within())
    assert not sshd.meetings
    told = log.read_text(encoding="utf-8")
    assert told.count("trying again") == 2
    assert "connected" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("meeting", [silent, endless, saying(b"SSH-2.0-x\r\n")])
def test_a_guest_that_never_gets_ready_is_given_up_in_time(sshd: Sshd, session: Session, meeting: Meeting) -> None:
    sshd.meetings += [meeting] * 1000
    with quickly(), pytest.raises(DeadlineExpired, match=r"first SSH session: nothing within 0\.2 s"):
        session.connect(sshd.port, within(0.2))


def test_a_port_at_which_nobody_listens_is_not_tried_without_pause(session: Session, log: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeadlineExpired):
        session.connect(port, within(0.5))
    assert 1 <= log.read_text(encoding="utf-8").count("trying again") <= 6


def test_a_guest_with_another_host_key_is_refused_at_once(keys: Keys, session: Session) -> None:
    stranger = Sshd(keys, host_key=key_of(Ed25519PrivateKey.generate()))
    with quickly(), pytest.raises(GuestLost, match=r"Host key for server 'the guest' does not match"):
        session.connect(stranger.port, within())
    assert [transport.is_authenticated() for transport in stranger.transports] == [False]
    stranger.close()


def test_a_guest_that_refuses_the_harness_is_lost_at_once(sshd: Sshd, session: Session) -> None:
    sshd.accepts_key = False
    with quickly(), pytest.raises(GuestLost, match="Authentication failed"):
        session.connect(sshd.port, within())


def test_whoever_waits_for_a_guest_wakes_when_it_is_lost(sshd: Sshd, session: Session) -> None:
    sshd.meetings.append(silent)
    cutting = threading.Timer(0.1, session.abort, ["Kernel panic - not syncing: x"])
    cutting.start()
    with quickly(), pytest.raises(GuestLost, match=r"^Kernel panic - not syncing: x$"):
        session.connect(sshd.port, within())
    cutting.join()


def test_a_guest_that_was_lost_before_is_not_connected_to(sshd: Sshd, session: Session) -> None:
    session.abort("QEMU ended")
    with pytest.raises(GuestLost, match=r"^QEMU ended$"):
        session.connect(sshd.port, within())
    with pytest.raises(GuestLost, match=r"^QEMU ended$"):
        session.run("x")


def test_time_that_is_over_is_over(sshd: Sshd, session: Session) -> None:
    with pytest.raises(DeadlineExpired):
        session.connect(sshd.port, within(0))
    assert not sshd.transports


def test_a_bug_of_ours_while_connecting_is_not_the_guests_fault(
    sshd: Sshd, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_check_host_key", lambda: None)
    with quickly(), pytest.raises(TypeError, match="positional argument"):
        session.connect(sshd.port, within())


def test_a_full_disk_is_noted_and_the_guest_still_reached(sshd: Sshd, keys: Keys, log: Path) -> None:
    log.symlink_to("/dev/full")
    session = Session(keys, log)
    assert session.broken is None
    session.connect(sshd.port, within())
    assert session.broken is not None
    assert session.broken.errno == errno.ENOSPC
    session.close()
