# SPDX-License-Identifier: GPL-2.0-or-later
"""Deadlines, on a clock that the tests move."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from harness.deadline import Deadline, DeadlineExpired


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Make a clock that stands still and is used by all deadlines."""
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    return made


def test_what_remains_shrinks_as_time_goes_by(clock: Clock) -> None:
    deadline = Deadline(10, "x")
    assert deadline.remaining() == 10
    clock.now += 4
    assert deadline.remaining() == 6


def test_what_remains_is_never_negative(clock: Clock) -> None:
    deadline = Deadline(10, "x")
    clock.now += 11
    assert deadline.remaining() == 0


def test_a_deadline_expires_at_its_very_end(clock: Clock) -> None:
    deadline = Deadline(10, "x")
    clock.now += 9.999
    assert not deadline.expired
    deadline.check()
    clock.now += 0.001
    assert deadline.expired
    with pytest.raises(DeadlineExpired):
        deadline.check()


@pytest.mark.parametrize("seconds", [0, -1])
@pytest.mark.usefixtures("clock")
def test_a_deadline_without_time_has_expired_from_the_start(seconds: float) -> None:
    deadline = Deadline(seconds, "x")
    assert deadline.expired
    assert deadline.remaining() == 0


@pytest.mark.parametrize(("seconds", "written"), [(90.0, "90"), (0.25, "0.25")])
def test_the_error_says_what_was_waited_for_and_how_long(seconds: float, written: str) -> None:
    assert str(Deadline(seconds, "the guest").error()) == f"the guest: nothing within {written} s"


def test_a_deadline_shows_how_much_of_it_is_left(clock: Clock) -> None:
    deadline = Deadline(10, "the guest")
    clock.now += 2.5
    assert repr(deadline) == "Deadline('the guest', 7.50 of 10 s left)"
