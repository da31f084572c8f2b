# SPDX-License-Identifier: GPL-2.0-or-later
"""Several at once: who writes sriov_numvfs while others write, rescan, remove, reset, bind and unbind."""

from __future__ import annotations

from collections.abc import Iterable
from errno import EBUSY, ENODEV, ENOENT

import pytest
from sriov_cases import STUB, meet, on

from harness.deadline import Deadline
from harness.guest.agent import Answer, Call
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.uevents import Uevent, Uevents

PATIENCE, BRIEFLY = 60.0, 6.0
HUNG_TASK_TIMEOUT = "/proc/sys/kernel/hung_task_timeout_secs"


def together(guest: Guest, calls: list[Call]) -> list[Answer]:
    """Do calls at the same time, each in a process of its own, and give what came of them."""
    processes = [(guest.process(), call) for call in calls]  # all there before the first begins
    return [pending.wait(PATIENCE) for pending in [process.start(call) for process, call in processes]]


def consistent(pf: Function) -> bool:
    """Tell whether the count, the links and the capability agree."""
    count = pf.numvfs
    capability = pf.config_space.sriov
    return len(pf.vfs) == count == capability.num_vfs and capability.vf_enable == (count > 0)


@pytest.mark.row("SR-90")
@on("igb-stub")
@pytest.mark.usefixtures("shared_machine")
def test_of_eight_writers_one_wins_and_seven_are_told_that_it_is_busy(guest: Guest, pf: Function) -> None:
    answers = together(guest, [pf.writing("sriov_numvfs", count) for count in range(1, 9)])
    winners = [count for count, answer in enumerate(answers, 1) if not answer.errno]
    assert sorted(answer.errno for answer in answers) == [0] + [EBUSY] * 7
    assert winners == [pf.numvfs]
    assert consistent(pf)


@pytest.mark.row("SR-90")
@on("nvme", "igb")
@pytest.mark.usefixtures("shared_machine")
def test_two_writers_of_one_count_both_succeed(guest: Guest, pf: Function) -> None:
    answers = together(guest, [pf.writing("sriov_numvfs", 2)] * 2)
    assert [answer.errno for answer in answers] == [0, 0]
    assert pf.numvfs == 2
    assert consistent(pf)


def removed(seen: Iterable[Uevent], function: Function) -> bool:
    return any(one.action == "remove" and one.devpath.endswith(str(function.bdf)) for one in seen)


@pytest.mark.row("SR-91")
@pytest.mark.machine("igb-two")
@pytest.mark.known_bug(
    "enabling VFs and removing their PF take two locks in opposite order, and wait for each other for ever",
    match=r"hung.task|blocked for more than|guest: writing b'1' to /sys/.*/(remove|sriov_numvfs): nothing within",
)
def test_enabling_and_removing_at_once_come_to_an_end(guest: Guest, stubs: list[Function]) -> None:
    """sriov_numvfs_store() takes the PF's lock, then pci_rescan_remove_lock; remove_store() the other way round."""
    guest.write(HUNG_TASK_TIMEOUT, "2")
    one, other = stubs
    other.numvfs = 1
    (vf,) = other.vfs
    uevents = Uevents(guest.session)
    disabler, remover, enabler = (guest.process() for _ in range(3))
    disabling = disabler.start(other.writing("sriov_numvfs", 0))  # holds pci_rescan_remove_lock for a second
    uevents.wait(lambda seen: removed(seen, vf), Deadline(PATIENCE, "the end of the VF"))
    uevents.close()
    removing = remover.start(one.writing("remove", 1))
    deadline = Deadline(PATIENCE, "the remover to wait for the lock")
    while not guest.is_blocked(remover):
        deadline.check()
    enabling = enabler.start(one.writing("sriov_numvfs", 1))
    disabling.wait(PATIENCE).value()
    assert removing.wait(BRIEFLY).errno == 0
    assert enabling.wait(BRIEFLY).errno in (0, ENODEV, ENOENT)
    assert not one.exists


@pytest.mark.row("SR-92")
@on("igb-stub")
@pytest.mark.usefixtures("shared_machine")
def test_resetting_and_enabling_take_turns(guest: Guest, pf: Function) -> None:
    pf.reset()  # from now on its power state is known: see test_resets_of_pfs.py
    for count in (1, 2):
        reset, written = together(guest, [pf.writing("reset", 1), pf.writing("sriov_numvfs", count)])
        assert (reset.errno, written.errno) == (0, 0)
        assert pf.numvfs == count
        assert consistent(pf)
        reset, written = together(guest, [pf.writing("reset", 1), pf.writing("sriov_numvfs", 0)])
        assert (reset.errno, written.errno) == (0, 0)
        assert consistent(pf)


@pytest.mark.row("SR-96")
@on("igb-stub")
@pytest.mark.usefixtures("shared_machine")
def test_whoever_finds_no_driver_is_told_so_and_nothing_breaks(guest: Guest, pf: Function) -> None:
    outcomes = set()
    driver = guest.driver(STUB)
    for count in (1, 2, 3):
        unbound, written = together(
            guest, [pf.writing("driver/unbind", str(pf.bdf)), pf.writing("sriov_numvfs", count)]
        )
        assert unbound.errno == 0
        outcomes.add(written.errno)
        bound, written = together(guest, [driver.binding(pf), pf.writing("sriov_numvfs", 0)])
        assert bound.errno == 0
        outcomes.add(written.errno)
        pf.numvfs = 0
        assert consistent(pf)
    assert outcomes <= {0, ENOENT}


@pytest.mark.row("SR-97")
@on("nvme", "igb-stub")
@pytest.mark.usefixtures("shared_machine")
def test_rescans_and_enabling_take_turns(guest: Guest, pf: Function) -> None:
    before = guest.functions()
    for count in (2, 0):
        rescans = [guest.rescanning()] * 2
        *rescanned, written = together(guest, [*rescans, pf.writing("sriov_numvfs", count)])
        assert [answer.errno for answer in (*rescanned, written)] == [0, 0, 0]
        assert consistent(pf)
        assert pf.numvfs == count
    assert guest.functions() == before


@pytest.mark.row("SR-98")
@on("igb", "virtio")
@pytest.mark.usefixtures("shared_machine")
def test_vfs_may_lose_their_drivers_while_they_go(guest: Guest, pf: Function, vf_driver: str) -> None:
    for _ in range(2):
        pf.numvfs = 2
        vfs = pf.vfs
        for vf in vfs:
            meet(vf_driver, vf)
        unbinding = [vf.writing("driver/unbind", str(vf.bdf)) for vf in vfs]
        *unbound, written = together(guest, [*unbinding, pf.writing("sriov_numvfs", 0)])
        assert written.errno == 0
        assert {answer.errno for answer in unbound} <= {0, ENOENT, ENODEV}
        assert consistent(pf)


@pytest.mark.row("SR-97")
@on("nvme", "igb-stub")
@pytest.mark.usefixtures("shared_machine")
def test_a_rescan_finds_no_vf_twice(guest: Guest, pf: Function) -> None:
    pf.numvfs = 2
    before = guest.functions()
    guest.rescan()
    assert guest.functions() == before
    assert len(pf.vfs) == 2
