# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in and out of a guest that keeps them, refuses them, talks nonsense or says no more."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import paramiko
import pytest
from paramiko import sftp
from sshd import Command, Sshd

from harness.deadline import Deadline
from harness.guest import ssh
from harness.guest.ssh import CommandFailed, GuestLost, GuestTimeout, Session
from harness.provision import keys as provision
from harness.provision.cache import Cache
from harness.provision.keys import Keys

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

REFUSALS = {sftp.SFTP_NO_SUCH_FILE: "No such file", sftp.SFTP_PERMISSION_DENIED: "Permission denied"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Make the keys of harness and guest."""
    return provision.provide(Cache(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def sshd(keys: Keys) -> Iterator[Sshd]:
    """Make a server that lets the harness in and has files."""
    server = Sshd(keys, sftp=serving_files)
    yield server
    server.close()


@pytest.fixture
def connected(sshd: Sshd, keys: Keys, tmp_path: Path) -> Iterator[Session]:
    """Make a session with a guest that has files."""
    made = Session(keys, tmp_path / "ssh.log")
    made.connect(sshd.port, Deadline(30, "the guest's first SSH session"))
    yield made
    made.close()


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


def test_a_file_comes_back_as_it_was_put(connected: Session) -> None:
    data = bytes(range(256)) * 1000
    connected.put(data, "/there", mode=0o755)
    assert connected.get("/there") == data
    assert Files.modes["/there"] == 0o755


@pytest.mark.parametrize(
    "arguments", [("text", "/there", 0o644), (5, "/there", 0o644), (b"", 5, 0o644), (b"", "/there", "644")]
)
def test_a_file_that_is_put_wrongly_is_the_callers_fault(connected: Session, arguments: tuple[Any, Any, Any]) -> None:
    data, path, mode = arguments
    with pytest.raises(TypeError):
        connected.put(data, path, mode=mode)


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
    start = time.monotonic()
    with pytest.raises(GuestTimeout):
        connected.get("/x")
    assert time.monotonic() - start < 10


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
