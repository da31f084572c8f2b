# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest as a test sees it: its kernel's log and console, and which part each of its methods asks."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import GuestFailure
from harness.guest.agent import Agent, Answer, Call, GuestErrno
from harness.guest.console import Console
from harness.guest.guest import Guest
from harness.guest.pci import Bdf
from harness.guest.ssh import COMMAND_TIMEOUT, Completed, GuestLost, GuestTimeout, Session
from harness.qemu.loop import the_loop

KMSG = "/dev/kmsg"
DEVICES = "/sys/bus/pci/devices"


class Kernel(Agent):
    """Answers system calls, and prints what is written to its log, warnings on the console too."""

    def __init__(self, serial: socket.socket) -> None:
        self.files: dict[str, bytes] = {}
        self.logged: list[str] = []
        self.serial = serial
        self.prefix = "[    1.000000] "
        self.suffix = ""
        self.prints = True
        self.raises: Exception | None = None

    def batch(self, calls: Sequence[Call], *, timeout: float = COMMAND_TIMEOUT) -> list[Answer]:
        assert timeout == COMMAND_TIMEOUT
        if self.raises is not None:
            raise self.raises
        return [self.answer(call) for call in calls]

    def answer(self, call: Call) -> Answer:
        if call.name == "write" and call.path == KMSG:
            level, _, text = bytes.fromhex(call.words[1]).decode().rstrip("\n").partition(">")
            self.logged.append(f"{self.prefix}{text}")
            if self.prints and int(level.removeprefix("<")) < 5:
                self.serial.sendall(f"{self.logged[-1]}{self.suffix}\r\n".encode())
            return Answer(call, 0, b"")
        if call.name == "write" and call.path in self.files:
            self.files[call.path] = bytes.fromhex(call.words[1])
            return Answer(call, 0, b"")
        found = self.files.get(call.path)
        return Answer(call, errno.ENOENT, b"") if found is None else Answer(call, 0, found)


class Shell(Session):
    """Runs dmesg, and notes what else it is asked for."""

    def __init__(self) -> None:
        self.kernel: Kernel
        self.asked: list[Any] = []

    def run(self, command: str | Sequence[str], *, timeout: float = 0, check: bool = False, **_: Any) -> Completed:
        self.asked.append((command, timeout, check))
        return Completed(str(command), 0, "\n".join(self.kernel.logged), "")

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        self.asked.append((data, path, mode))

    def get(self, path: str) -> bytes:
        return path.encode()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """Make a guest with a kernel, a shell and a captured console."""
    serial, connection = socket.socketpair()
    session, console = Shell(), Console(the_loop(), tmp_path / "console.log")
    console.capture(connection)
    made = Guest(session, console)
    made.agent = session.kernel = Kernel(serial)
    yield made
    serial.close()
    console.close()


@pytest.fixture
def kernel(guest: Guest) -> Kernel:
    """Give the guest's kernel."""
    assert isinstance(guest.agent, Kernel)
    return guest.agent


def test_commands_and_files_go_through_the_session(guest: Guest) -> None:
    guest.run(["a", "b"], timeout=3, check=True)
    guest.put(b"x", "/x", mode=0o755)
    assert isinstance(guest.session, Shell)
    assert guest.session.asked == [(["a", "b"], 3, True), (b"x", "/x", 0o755)]
    assert guest.get("/y") == b"/y"


def test_small_files_are_read_and_written_with_their_true_errno(guest: Guest, kernel: Kernel) -> None:
    kernel.files["/sys/x"] = b"a\xff\n"
    assert guest.read("/sys/x") == "a\ufffd\n"
    for value in ("grün", b"\0"):
        guest.write("/sys/x", value)
        assert kernel.files["/sys/x"] == (value.encode() if isinstance(value, str) else value)
    for action in (lambda: guest.read("/no"), lambda: guest.write("/no", "")):
        with pytest.raises(GuestErrno, match="ENOENT"):
            action()


def test_pci_functions_are_given_by_address(guest: Guest, kernel: Kernel) -> None:
    kernel.files[DEVICES] = b"0000:01:00.0\x000000:00:02.0"
    assert [str(function.bdf) for function in guest.functions()] == ["0000:00:02.0", "0000:01:00.0"]
    assert guest.function("0000:01:00.0") == guest.function(Bdf(0, 1, 0, 0))
    with pytest.raises(ValueError, match="is no PCI address"):
        guest.function("igb0")


STAMPS = ["[    1.000000] ", "[12345.678901] ", "[    1.000000][    T1] ", "[    1.000000][  C127] ", ""]


@pytest.mark.parametrize("stamp", STAMPS)
def test_messages_are_those_after_the_mark_without_their_stamps(guest: Guest, kernel: Kernel, stamp: str) -> None:
    kernel.prefix = stamp
    kernel.logged.append(f"{stamp}before")
    mark = guest.log_mark()
    kernel.logged += [f"{stamp}igb 0000:01:00.0: 1 VFs", f"{stamp}  [1] indented", stamp]
    assert guest.messages(mark)[:2] == ["igb 0000:01:00.0: 1 VFs", "  [1] indented"]
    assert not any("before" in line for line in guest.messages(mark))


def test_each_mark_begins_anew_and_an_earlier_one_still_counts(guest: Guest, kernel: Kernel) -> None:
    first = guest.log_mark()
    kernel.logged.append("one")
    second = guest.log_mark()
    kernel.logged.append("two")
    assert guest.messages(second) == ["two"]
    assert guest.messages(first) == ["one", second, "two"]


def test_a_message_that_quotes_a_mark_is_not_taken_for_it(guest: Guest, kernel: Kernel) -> None:
    mark = guest.log_mark()
    kernel.logged += ["one", f"{mark}0", f"echo {mark}", "two"]
    assert guest.messages(mark) == ["one", f"{mark}0", f"echo {mark}", "two"]


def test_a_log_that_has_overflowed_since_the_mark_tells_nothing_of_the_time_since(guest: Guest, kernel: Kernel) -> None:
    mark = guest.log_mark()
    kernel.logged[:] = ["[    2.000000] two", "[    3.000000] three"]
    with pytest.raises(GuestFailure, match=f"no longer holds the mark '{mark}'"):
        guest.messages(mark)


def test_a_mark_does_not_appear_on_the_console(guest: Guest) -> None:
    guest.log_mark()
    guest.drain()
    assert [line.partition("] ")[2] for line in guest.console.tail()] == ["iov-harness: drained 2"]


def test_draining_waits_for_everything_that_was_said_before(guest: Guest, kernel: Kernel) -> None:
    kernel.serial.sendall(b"[    0.5] last words of the kernel\r\n" * 1000)
    guest.drain()
    assert guest.console.position == 1001


def test_draining_again_does_not_take_an_earlier_mark_for_its_own(guest: Guest, kernel: Kernel) -> None:
    kernel.serial.sendall(b"[    0.5] iov-harness: drained 1\r\n[    0.5] iov-harness: drained 12\r\n")
    guest.console.catch_up(Deadline(20, "x"), ended=False)
    kernel.prints = False
    with pytest.raises(GuestTimeout):
        guest.drain(timeout=0.05)


def test_a_longer_line_is_not_taken_for_the_drained_mark(guest: Guest, kernel: Kernel) -> None:
    kernel.suffix = "0"
    with pytest.raises(GuestTimeout):
        guest.drain(timeout=0.05)


def test_a_prompt_before_the_drained_mark_does_not_hide_it(guest: Guest, kernel: Kernel) -> None:
    kernel.serial.sendall(b"\x1b[1mroot@guest:~# ")
    guest.drain()


def test_a_kernel_that_prints_no_more_is_told_as_such(guest: Guest, kernel: Kernel) -> None:
    kernel.prints = False
    expected = r"^the kernel's log does not reach the console any more: the console: nothing within 0\.05 s$"
    with pytest.raises(GuestTimeout, match=expected):
        guest.drain(timeout=0.05)


def test_a_console_that_ends_is_not_waited_for(guest: Guest, kernel: Kernel) -> None:
    kernel.prints = False
    kernel.serial.close()
    start = time.monotonic()
    with pytest.raises(GuestTimeout, match="the console: it has ended"):
        guest.drain(timeout=20)
    assert time.monotonic() - start < 10


def test_a_guest_that_is_lost_cannot_be_drained(guest: Guest, kernel: Kernel) -> None:
    kernel.raises = GuestLost("QEMU ended")
    with pytest.raises(GuestLost, match="QEMU ended"):
        guest.drain()
