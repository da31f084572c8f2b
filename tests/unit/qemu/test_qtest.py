# SPDX-License-Identifier: GPL-2.0-or-later
"""The qtest protocol, spoken with a socket that answers what a test says."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from harness.qemu import qtest as module
from harness.qemu.qtest import Qtest, QtestLost


@pytest.fixture
def ends() -> Iterator[tuple[Qtest, socket.socket]]:
    """A connection, and the end of it where QEMU would be."""
    ours, qemus = socket.socketpair()
    with qemus:
        qtest = Qtest(ours)
        yield qtest, qemus
        qtest.close()


def test_reads_and_writes_are_lines_of_the_protocol(ends: tuple[Qtest, socket.socket]) -> None:
    qtest, qemu = ends
    qemu.sendall(b"OK 0x12\nOK\nOK 0x34\nOK\nOK 0xdeadbeef\nOK\n")
    assert qtest.read(0x1000, 2) == 0x12
    qtest.write(0x2000, 0xFF, 8)
    assert qtest.port_in(0xCF8) == 0x34
    qtest.port_out(0xCFC, 1, 1)
    assert qtest.read_bytes(0, 4) == b"\xde\xad\xbe\xef"
    qtest.write_bytes(8, b"\1\2")
    qtest.write_bytes(8, b"")
    asked = [
        "readw 0x1000",
        "writeq 0x2000 0xff",
        "inl 0xcf8",
        "outb 0xcfc 0x1",
        "read 0x0 0x4",
        "write 0x8 0x2 0x0102",
    ]
    assert qemu.recv(4096).decode().splitlines() == asked


def test_an_answer_may_come_in_pieces_with_interrupts_told_before_it(ends: tuple[Qtest, socket.socket]) -> None:
    qtest, qemu = ends
    qemu.sendall(b"IRQ raise 3\nIRQ lower 3\nOK 0x")
    qemu.sendall(b"7\n")
    assert qtest.read(0) == 7


@pytest.mark.parametrize("said", [b"FAIL Unknown command 'readl'\n", b"\n", b"ERR\n", b"\xff\xfe\n"])
def test_what_is_no_answer_is_told_with_what_was_asked(ends: tuple[Qtest, socket.socket], said: bytes) -> None:
    qtest, qemu = ends
    qemu.sendall(said)
    with pytest.raises(QtestLost, match=r"^qtest readl 0x10: QEMU answers"):
        qtest.read(0x10)


def test_an_end_of_qemu_is_told(ends: tuple[Qtest, socket.socket]) -> None:
    qtest, qemu = ends
    qemu.shutdown(socket.SHUT_WR)
    with pytest.raises(QtestLost, match="QEMU ended"):
        qtest.read(0)
    qemu.close()
    with pytest.raises(QtestLost, match="QEMU is gone"):
        qtest.read(0)


def test_a_qemu_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)
    ours, qemus = socket.socketpair()
    with qemus, pytest.raises(QtestLost, match=r"qtest readl 0x0: no answer within 0\.05 s"):
        Qtest(ours).read(0)
    ours.close()


def test_an_answer_without_end_is_cut_short(ends: tuple[Qtest, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_LIMIT", 100)
    qtest, qemu = ends
    qemu.sendall(b"x" * 200)
    with pytest.raises(QtestLost, match="answers without end"):
        qtest.read(0)
