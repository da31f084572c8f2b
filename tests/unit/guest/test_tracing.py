# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracing by a tracefs that is a dictionary."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from harness.errors import UsageError
from harness.guest.agent import Agent, Answer, Call, GuestErrno
from harness.guest.guest import Guest
from harness.guest.ssh import COMMAND_TIMEOUT
from harness.guest.tracing import Traced, freed, traced

TRACEFS = "/sys/kernel/tracing"


class Tracefs(Agent):
    """Keeps what is written, and shows a trace in which each event that is enabled happened twice."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str]] = []
        self.refuses = 0
        self.lines = (" argument=2 result=2", " argument=0 result=-16", " argument=junk result=1 x")

    def batch(self, calls: Sequence[Call], *, timeout: float = COMMAND_TIMEOUT) -> list[Answer]:
        del timeout
        return [self.answer(call) for call in calls]

    def answer(self, call: Call) -> Answer:
        if call.name == "read":
            return Answer(call, 0, self.trace().encode())
        self.written.append((call.path.removeprefix(f"{TRACEFS}/"), bytes.fromhex(call.words[1]).decode()))
        return Answer(call, self.refuses, b"")

    def trace(self) -> str:
        event = self.written[0][1].split()[0].partition("/")[2]
        head = "              sh-123     [001] ...1.    12.345678: "
        where = "(sriov_numvfs_store+0xd5/0x160 <- pci_sriov_configure_simple)"
        lines = [f"{head}{event}: {where}{line}" for line in self.lines]
        return "\n".join(["# tracer: nop", f"{head}{event}0: {where} argument=9 result=9", *lines])


def guest_with(tracefs: Tracefs) -> Guest:
    made = SimpleNamespace(agent=tracefs)
    made.write = lambda path, text: tracefs.answer(Call("write", path, ("0", text.encode().hex()))).value()
    return cast("Guest", made)


def test_calls_are_those_of_its_own_event_and_the_probe_goes_with_the_block() -> None:
    tracefs = Tracefs()
    with traced(guest_with(tracefs), "pci_sriov_configure_simple", argument=2, result=True) as trace:
        assert trace.calls == [Traced(2, 2), Traced(0, -16)]
    probe, on, off, removal = tracefs.written
    event = probe[1].split()[0].removeprefix("r:")
    assert probe == ("kprobe_events", f"r:{event} pci_sriov_configure_simple argument=$arg2:s32 result=$retval:s32\n")
    assert (on, off) == ((f"events/{event}/enable", "1"), (f"events/{event}/enable", "0"))
    assert removal == ("kprobe_events", f"-:{event}\n")


def test_a_function_need_have_neither_argument_nor_result() -> None:
    tracefs = Tracefs()
    tracefs.lines = ("",)
    with traced(guest_with(tracefs), "pci_release_dev") as trace:
        assert trace.calls == [Traced(None, None)]
    assert tracefs.written[0][1].endswith(" pci_release_dev\n")


def test_two_traces_do_not_meet() -> None:
    first, second = Tracefs(), Tracefs()
    with traced(guest_with(first), "a"), traced(guest_with(second), "a"):
        assert first.written[0] != second.written[0]


@pytest.mark.parametrize("symbol", ["", "a b", "a\nb", "9a", "a;b", "pci:x"])
def test_what_is_no_function_is_refused(symbol: str) -> None:
    with pytest.raises(UsageError, match="is no name of a kernel function"), traced(guest_with(Tracefs()), symbol):
        pass


def test_a_function_that_the_kernel_does_not_have_is_told_by_its_errno() -> None:
    tracefs = Tracefs()
    tracefs.refuses = errno.ENOENT
    with pytest.raises(GuestErrno, match="ENOENT"), traced(guest_with(tracefs), "none"):
        pass


class Memory(Tracefs):
    """Tells of a kfree() for each line that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 1

    def trace(self) -> str:
        return "# tracer: nop\n" + "  sh-123  [001] ...1. 1.0: kfree: call_site=f+0x1/0x2 ptr=0x12\n" * self.calls


def test_only_what_is_freed_within_the_block_counts() -> None:
    tracefs = Memory()
    with freed(guest_with(tracefs), 0xFFFF888000001000) as watched:
        assert not watched.happened
        tracefs.calls += 2
        assert watched.happened
    event = "events/kmem/kfree"
    assert tracefs.written == [
        (f"{event}/filter", "ptr == 0xffff888000001000\n"), (f"{event}/enable", "1"), (f"{event}/enable", "0")
    ]  # fmt: skip
