# SPDX-License-Identifier: GPL-2.0-or-later
"""Logging in to a guest that is not ready, not the one expected or not sane; and its files."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko import sftp
from sshd import Command, Meeting, Sshd, key_of

from harness.deadline import Deadline, DeadlineExpired
from harness.guest import ssh
from harness.guest.ssh import CommandFailed, GuestLost, GuestTimeout, Session
from harness.provision import keys as provision
from harness.provision.cache import Cache
from harness.provision.keys import Keys

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

REFUSALS = {sftp.SFTP_NO_SUCH_FILE: "No such file", sftp.SFTP_PERMISSION_DENIED: "Permission denied"}


def within(seconds: float = 30) -> Deadline:
    return Deadline(seconds, "the guest's first SSH session")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Make the keys of harness and guest."""
    return provision.provide(Cache(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def sshd(keys: Keys) -> Iterator[Sshd]:
    """Make a server that lets the harness in."""
    server = Sshd(keys)
    yield server
    server.close()


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


class Handle(paramiko.SFTPHandle):
    """A file in memory; one named /endless has no end."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes()

    def read(self, offset: int, length: int) -> bytes:
        return b"x" * length if self._path == "/endless" else Files.held[self._path][offset : offset + length]

    def write(self, offset: int, data: ReadableBuffer) -> int:
        Files.held[self._path] = Files.held[self._path][:offset] + bytes(data)
        return sftp.SFTP_OK


class Files(paramiko.SFTPServerInterface):
    """Files in memory; those of /refused/N are refused with status N."""

    held: ClassVar[dict[str, bytes]] = {}
    modes: ClassVar[dict[str, int | None]] = {}

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        del attr
        if path.startswith("/refused/"):
            return int(path.rpartition("/")[2])
        if flags:
            self.held[path] = b""
        return Handle(path) if path in (*self.held, "/endless") else sftp.SFTP_NO_SUCH_FILE

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        self.modes[path] = attr.st_mode
        return sftp.SFTP_OK


def serving_files(channel: paramiko.Channel) -> None:
    paramiko.SFTPServer(channel, "sftp", paramiko.ServerInterface(), Files).start()


@pytest.fixture
def connected(sshd: Sshd, session: Session) -> Session:
    """Make a session with a guest that has files."""
    sshd.sftp = serving_files
    session.connect(sshd.port, within())
    return session


def test_a_file_comes_back_as_it_was_put(connected: Session) -> None:
    data = bytes(range(256)) * 1000
    connected.put(data, "/there", mode=0o755)
    assert connected.get("/there") == data
    assert Files.modes["/there"] == 0o755


def test_a_file_without_end_is_bounded(connected: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "FILE_LIMIT", 100_000)
    assert connected.get("/endless") == b"x" * 100_000


@pytest.mark.parametrize(("status", "message"), REFUSALS.items())
def test_a_file_that_the_guest_refuses_says_why_and_the_next_one_works(
    connected: Session, status: int, message: str
) -> None:
    with pytest.raises(CommandFailed, match=f"^reading guest file /refused/{status}: .*{message}"):
        connected.get(f"/refused/{status}")
    with pytest.raises(CommandFailed, match=f"^writing guest file /refused/{status}: .*{message}"):
        connected.put(b"", f"/refused/{status}")
    connected.put(b"1", "/there")
    assert connected.get("/there") == b"1"


def sftp_packet(kind: int, payload: bytes) -> bytes:
    return struct.pack(">IB", len(payload) + 1, kind) + payload


VERSION = sftp_packet(sftp.CMD_VERSION, struct.pack(">I", 3))


def answering(*packets: bytes) -> Command:
    def answer(channel: paramiko.Channel) -> None:
        for packet in packets:
            channel.recv(4096)
            channel.sendall(packet)
        channel.recv(4096)
        channel.close()

    return answer


def refusal(request: int, reason: bytes) -> bytes:
    return sftp_packet(sftp.CMD_STATUS, struct.pack(">III", request, sftp.SFTP_FAILURE, len(reason)) + reason)


def test_no_escape_passes_with_a_guests_reason(sshd: Sshd, connected: Session) -> None:
    sshd.sftp = answering(VERSION, refusal(1, b"\x1b[31mno\x07"))
    with pytest.raises(CommandFailed, match=r"^reading guest file /x: no$"):
        connected.get("/x")


@pytest.mark.parametrize(
    "packets",
    [
        (),
        (VERSION,),
        (b"\xff" * 100,),
        (sftp_packet(sftp.CMD_VERSION, b""),),
        (sftp_packet(sftp.CMD_DATA, b""),),
        (VERSION, sftp_packet(sftp.CMD_DATA, struct.pack(">I", 1))),
        (VERSION, sftp_packet(sftp.CMD_HANDLE, struct.pack(">II", 1, 2**31))),
        (VERSION, sftp_packet(sftp.CMD_STATUS, struct.pack(">II", 1, 4) + b"\0\0\0\x01\xff")),
    ],
)
def test_a_guest_that_talks_nonsense_or_ends_in_the_midst_is_lost(
    sshd: Sshd, connected: Session, packets: tuple[bytes, ...]
) -> None:
    sshd.sftp = answering(*packets)
    with pytest.raises((GuestLost, CommandFailed)):
        connected.get("/x")
    with pytest.raises((GuestLost, CommandFailed)):
        connected.put(b"", "/x")


@pytest.mark.parametrize("packets", [(), (VERSION,), (VERSION[:3],)])
def test_a_guest_that_says_no_more_is_given_up_in_time(
    sshd: Sshd, connected: Session, monkeypatch: pytest.MonkeyPatch, packets: tuple[bytes, ...]
) -> None:
    def stalling(channel: paramiko.Channel) -> None:
        for packet in packets:
            channel.sendall(packet)
        sshd.hang()

    sshd.sftp = stalling
    monkeypatch.setattr(ssh, "FILE_TIMEOUT", 0.15)
    with pytest.raises(GuestTimeout, match=r"^reading guest file /x: nothing within 0\.15 s$"):
        connected.get("/x")


def test_answers_that_nobody_asked_for_do_not_outlast_the_deadline(
    sshd: Sshd, connected: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def babbling(channel: paramiko.Channel) -> None:
        channel.sendall(VERSION)
        while True:
            channel.sendall(refusal(99, b"x" * 30_000))

    sshd.sftp = babbling
    monkeypatch.setattr(ssh, "FILE_TIMEOUT", 0.15)
    with quickly(), pytest.raises(GuestTimeout):
        connected.get("/x")


def test_a_guest_without_file_transfer_says_so(sshd: Sshd, connected: Session) -> None:
    sshd.sftp = None
    with pytest.raises(GuestLost, match="Channel closed"):
        connected.get("/x")


def test_a_guest_that_is_cut_off_while_a_file_moves_is_lost(sshd: Sshd, connected: Session) -> None:
    sshd.sftp = lambda _: sshd.cut()
    with pytest.raises(GuestLost):
        connected.get("/x")


def test_a_reason_that_is_known_is_told_for_a_file_too(sshd: Sshd, connected: Session) -> None:
    sshd.sftp = lambda _: connected.abort("QEMU ended")
    with pytest.raises(GuestLost, match=r"^QEMU ended$"):
        connected.get("/x")
