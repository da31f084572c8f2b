# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose kernels misjudge their timers on a busy host, and what becomes of them: all are only files."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from lab import LOST, MADE, Lab

from harness.errors import CouldNotRun, MachineLost, Stage
from harness.machine.health import mistiming
from harness.machine.machine import Machine

LINE = "[    0.149160] APIC calibration not consistent with PM-Timer: {}ms instead of 100ms"


@pytest.mark.parametrize("window", [0, 45, 66])
def test_a_timer_that_was_timed_over_a_short_span_may_be_misjudged(window: int) -> None:
    assert f" over {window} ms instead of 100" in mistiming(LINE.format(window))


@pytest.mark.parametrize("window", [67, 98, 150, 4687])
def test_a_timer_that_was_timed_over_nearly_the_span_or_longer_is_not(window: int) -> None:
    assert mistiming(LINE.format(window)) == ""


def test_other_lines_misjudge_no_timer() -> None:
    assert mistiming("[    0.03] tsc: Unable to calibrate against PIT") == ""


def test_a_machine_that_misjudged_its_timer_is_booted_again_and_leaves_its_records(lab: Lab) -> None:
    lab.mistimed = 2
    told: list[Machine] = []
    with ExitStack() as stack:
        machine = lab.starter().bring_up(stack, lab.spec(), lab.folder, cold=True, coming_up=told.append)
        assert machine is told[-1]
        assert lab.deeds == ["boot", "close"] * 2 + ["boot"]
    assert lab.deeds == ["close"]
    assert len({id(one) for one in told}) == 3
    assert machine.boots == 3
    for name in ("console.log", "device-siov0.jsonl"):
        assert [(lab.folder / f"{number}-{name}").read_text() for number in (1, 2)] == [
            "mistimed, 1 to come\n",
            "mistimed, 0 to come\n",
        ]


@pytest.mark.parametrize("cold", [True, False])
def test_a_host_on_which_none_does_better_is_too_busy(lab: Lab, *, cold: bool) -> None:
    """It is no kernel's fault, and no base machine's that is not tried again."""
    lab.mistimed = 8
    starter = lab.starter()
    with pytest.raises(CouldNotRun) as caught, starter.running(lab.spec(), lab.folder, cold=cold):
        pass
    assert not isinstance(caught.value, MachineLost)
    assert str(caught.value) == "its kernel misjudged, 8 times: this host is too busy"
    assert (caught.value.stage, caught.value.detail) == (Stage.KERNEL, "console")
    assert lab.deeds == (["boot", "close"] * 8 if cold else [*["boot_base", "close"] * 8, "close"])
    with starter.running(lab.spec(), lab.folder, cold=cold):
        assert lab.deeds == (["boot"] if cold else [*MADE, "clone"])


@pytest.mark.parametrize(("loss", "complaints"), [("QEMU was killed", ()), ("", ("WARNING: at x",))])
def test_what_went_wrong_besides_is_told(lab: Lab, loss: str, complaints: tuple[str, ...]) -> None:
    lab.mistimed, lab.loss, lab.complaints = 1, loss, complaints
    with pytest.raises(MachineLost), lab.starter().running(lab.spec(), lab.folder, cold=True):
        pass
    assert lab.deeds == ["boot", "close"]


def test_a_base_machine_that_misjudged_its_timer_is_booted_again(lab: Lab) -> None:
    lab.mistimed = 1
    lab.starter().source(lab.spec())
    assert lab.deeds == ["boot_base", "close", *MADE]
    assert len(lab.kept) == 1


def test_a_machine_that_is_lost_for_another_reason_is_not_booted_again(lab: Lab) -> None:
    lab.refuses = LOST
    starter = lab.starter()
    with ExitStack() as stack:
        with pytest.raises(MachineLost) as caught:
            starter.bring_up(stack, lab.spec(), lab.folder)
        assert caught.value is LOST
        assert lab.deeds == [*MADE, "clone"], "it is still there to be looked at"
    assert lab.deeds == ["close"]


def test_what_breaks_off_in_the_block_ends_the_machine_and_is_raised(lab: Lab) -> None:
    with pytest.raises(MachineLost), lab.starter().running(lab.spec(), lab.folder, cold=True):
        raise LOST
    assert lab.deeds == ["boot", "close"]
