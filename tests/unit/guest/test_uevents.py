# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's uevents, as an agent that only knows these hands them on."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import cast

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.guest import uevents as module
from harness.guest.agent import Agent, Answer, Call, GuestErrno
from harness.guest.ssh import COMMAND_TIMEOUT, GuestLost, Session
from harness.guest.uevents import Uevent, Uevents

ADD = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=pci\0"
BIND = ADD.replace(b"add", b"bind")


class Kernel(Agent):
    """Gives a portion of uevents at each call, and notes how patiently it was asked."""

    def __init__(self, *portions: bytes | Exception, listens: int = 0) -> None:
        self.portions = list(portions)
        self.listens = listens
        self.patience: list[float] = []
        self.closed = False

    def batch(self, calls: Sequence[Call], *, timeout: float = COMMAND_TIMEOUT) -> list[Answer]:
        (call,) = calls
        if call.name == "listen":
            return [Answer(call, self.listens, b"")]
        self.patience.append(float(call.words[0]))
        assert timeout == pytest.approx(self.patience[-1] + COMMAND_TIMEOUT, abs=0.01)
        portion = self.portions.pop(0) if self.portions else b""
        if isinstance(portion, Exception):
            raise portion
        return [Answer(call, 0, portion)]

    def close(self) -> None:
        self.closed = True


def heard(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> Uevents:
    monkeypatch.setattr(module, "Agent", lambda _: kernel)
    return Uevents(cast("Session", None))


def actions(events: Iterable[Uevent]) -> list[str]:
    return [event.action for event in events]


def test_a_uevent_is_an_action_a_path_and_fields() -> None:
    event = Uevent.parse(ADD + b"MODALIAS=pci:v00008086d=x\0EMPTY=\0")
    assert (event.action, event.devpath) == ("add", "/devices/x")
    fields = {"ACTION": "add", "DEVPATH": "/devices/x", "SUBSYSTEM": "pci"}
    assert event.fields == {**fields, "MODALIAS": "pci:v00008086d=x", "EMPTY": ""}


@pytest.mark.parametrize(
    "message", [b"", b"\0", b"@", b"\xff\xfe@\xff\0\xff=\xff", b"add", b"\0=\0=\0\0x", b"@" * 9999]
)
def test_no_message_is_too_strange_to_be_read(message: bytes) -> None:
    assert isinstance(Uevent.parse(message), Uevent)


def test_the_kernel_is_listened_to_from_the_start_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GuestErrno, match=r"^listening to uevents: EPERM") as caught:
        heard(monkeypatch, Kernel(listens=errno.EPERM))
    assert caught.value.errno == errno.EPERM


def test_all_that_has_come_is_given_at_once_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(ADD + b"\n" + BIND, b"", BIND)
    uevents = heard(monkeypatch, kernel)
    assert actions(uevents.seen()) == ["add", "bind"]
    assert actions(uevents.seen()) == ["add", "bind"]
    assert actions(uevents.seen()) == ["add", "bind", "bind"]
    assert kernel.patience == [0, 0, 0]


def test_what_is_waited_for_may_come_in_any_portion_and_counts_with_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(ADD, b"", BIND, b"never asked for")
    uevents = heard(monkeypatch, kernel)
    uevents.wait(lambda seen: actions(seen) == ["add", "bind"], Deadline(1000, "x"))
    assert kernel.patience == [10, 10, 10]


def test_what_has_been_seen_is_not_waited_for_even_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(ADD)
    uevents = heard(monkeypatch, kernel)
    uevents.seen()
    uevents.wait(lambda seen: "add" in actions(seen), Deadline(0, "x"))
    assert kernel.patience == [0]


def test_what_does_not_come_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(ADD)
    with pytest.raises(DeadlineExpired, match=r"^x: nothing within 0\.05 s$"):
        heard(monkeypatch, kernel).wait(lambda seen: "bind" in actions(seen), Deadline(0.05, "x"))
    assert kernel.patience
    assert max(kernel.patience) <= 0.05


def test_a_guest_that_is_lost_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GuestLost, match="panic"):
        heard(monkeypatch, Kernel(b"", GuestLost("panic"))).wait(lambda _: False, Deadline(20, "x"))


def test_of_a_flood_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    uevents = heard(monkeypatch, Kernel(b"\n".join([ADD, BIND]), b"\n".join([ADD, BIND]), BIND))
    for _ in range(3):
        uevents.seen()
    assert actions(uevents.seen()) == ["add", "bind", "add"]


def test_closing_ends_the_connection_on_which_the_kernel_was_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    heard(monkeypatch, kernel).close()
    assert kernel.closed
