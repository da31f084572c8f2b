# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose kernels misjudge their timers on a busy host, and what becomes of them: all are only files."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from lab import LOST, MADE, Lab

from harness.errors import MachineLost
from harness.machine.health import mistiming
from harness.machine.machine import Machine

LINE = "[    0.149160] APIC calibration not consistent with PM-Timer: {}ms instead of 100ms"


@pytest.mark.parametrize("window", [-4000, 0, 45, 66, 151, 4294])
def test_a_timer_that_was_timed_over_quite_another_span_is_misjudged(window: int) -> None:
    assert f" over {window} ms instead of 100" in mistiming(LINE.format(window))


@pytest.mark.parametrize("window", [67, 98, 150])
def test_a_timer_that_was_timed_over_nearly_the_span_is_not(window: int) -> None:
    assert mistiming(LINE.format(window)) == ""


def test_other_lines_misjudge_no_timer() -> None:
    assert mistiming("[    0.03] tsc: Unable to calibrate against PIT") == ""


def test_a_machine_that_misjudged_its_timer_is_booted_again_and_leaves_its_records(lab: Lab) -> None:
    lab.mistimed = 2
    told: list[Machine] = []
    with ExitStack() as stack:
        machine = lab.starter().started(stack, lab.spec(), lab.folder, cold=True, coming_up=told.append)
        assert machine is told[-1]
        assert lab.deeds == ["boot", "close"] * 2 + ["boot"]
    assert lab.deeds == ["close"]
    assert len({id(one) for one in told}) == 3
    assert [(lab.folder / f"{number}-console.log").read_text() for number in (1, 2)] == [
        "mistimed, 1 to come\n",
        "mistimed, 0 to come\n",
    ]


def test_the_last_attempt_is_taken_as_it_comes(lab: Lab) -> None:
    lab.mistimed = 100
    with lab.starter().running(lab.spec(), lab.folder, cold=True):
        assert lab.deeds == ["boot", "close"] * 4 + ["boot"]
    assert lab.mistimed == 95


def test_a_base_machine_that_misjudged_its_timer_is_booted_again(lab: Lab) -> None:
    lab.mistimed = 1
    lab.starter().source(lab.spec())
    assert lab.deeds == ["boot_base", "close", *MADE]
    assert len(lab.kept) == 1


def test_no_clones_are_made_of_one_that_misjudged_its_timer_to_the_last(lab: Lab) -> None:
    """They would all be as slow."""
    lab.mistimed = 5
    starter = lab.starter()
    lab.start(starter, lab.spec())
    assert lab.deeds == ["boot_base", "close"] * 4 + [*MADE, "boot"]
    assert lab.kept == []


def test_a_machine_that_is_lost_for_another_reason_is_not_booted_again(lab: Lab) -> None:
    lab.refuses = LOST
    starter = lab.starter()
    with ExitStack() as stack:
        with pytest.raises(MachineLost) as caught:
            starter.started(stack, lab.spec(), lab.folder)
        assert caught.value is LOST
        assert lab.deeds == [*MADE, "clone"], "it is still there to be looked at"
    assert lab.deeds == ["close"]


def test_what_breaks_off_in_the_block_ends_the_machine_and_is_raised(lab: Lab) -> None:
    with pytest.raises(MachineLost), lab.starter().running(lab.spec(), lab.folder, cold=True):
        raise LOST
    assert lab.deeds == ["boot", "close"]
