# SPDX-License-Identifier: GPL-2.0-or-later
"""Attaching to a QEMU that is none: whatever answers at the socket, it ends in one line, and in time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.guest.introspect import program, state
from harness.guest.introspect.program import NotAttached

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket at which something listens, as a QEMU with its one client does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "debug.sock"))
        listener.listen(1)
        yield listener


def attach(folder: Path) -> None:
    with state.attached(folder / "debug.sock", folder / "vmlinux"):
        raise AssertionError("never reached")


def test_a_machine_that_has_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAttached, match=r"debug\.sock: cannot connect to QEMU .*No such file"):
        attach(tmp_path)


@pytest.mark.usefixtures("qemu")
def test_a_socket_that_another_debugger_has_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_GREETING_TIMEOUT", 0.1)
    with pytest.raises(NotAttached, match="does not greet: is another debugger connected"):
        attach(tmp_path)


@pytest.mark.parametrize(
    ("said", "told"),
    [(b"hello\n", "could not parse"), (GREETING, "temporarily unavailable")],
    ids=["babble", "silence"],
)
def test_whatever_does_not_speak_qmp_is_told_in_time(
    tmp_path: Path, qemu: socket.socket, monkeypatch: pytest.MonkeyPatch, said: bytes, told: str
) -> None:
    monkeypatch.setattr(program, "_ANSWER_TIMEOUT", 1)
    ended = []

    def greet() -> None:
        client, _ = qemu.accept()
        with client:
            client.sendall(said)
            while client.recv(4096):
                pass
            ended.append(True)

    with ThreadPoolExecutor() as pool:
        greeted = pool.submit(greet)
        with pytest.raises(NotAttached, match=f"drgn cannot attach to QEMU: .*{told}"):
            attach(tmp_path)
        greeted.result(10)
    assert ended == [True]
