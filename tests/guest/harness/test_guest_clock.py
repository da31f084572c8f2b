# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest measures time by: one that lives by the jiffies of a periodic tick stands still now and then."""

from __future__ import annotations

import pytest

from harness.guest.guest import Guest

_CLOCKS = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_TICKS = "/sys/devices/system/clockevents/clockevent0/current_device"


@pytest.mark.parametrize("start", ["clone", pytest.param("cold", marks=pytest.mark.cold)])
@pytest.mark.machine("minimal")
def test_a_guest_does_not_live_by_its_jiffies(guest: Guest, start: str) -> None:
    del start
    assert guest.read(_CLOCKS).strip() in ("tsc-early", "tsc", "kvm-clock", "hpet")
    assert guest.read(_TICKS).strip() in ("lapic", "lapic-deadline")


@pytest.mark.machine("minimal")
def test_a_guest_ticks_only_when_it_has_to(guest: Guest) -> None:
    """One-shot ticks (kernel/time/tick-internal.h, TICKDEV_MODE_ONESHOT): they need a clock that is none of jiffies."""
    modes = [
        line.split()[-1]
        for line in guest.read("/proc/timer_list").splitlines()
        if line.startswith("Tick Device: mode:")
    ]
    assert modes
    assert set(modes) == {"1"}
