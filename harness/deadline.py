# SPDX-License-Identifier: GPL-2.0-or-later
"""One kind of deadline for every wait in the program."""

from __future__ import annotations

import time


class DeadlineExpired(Exception):
    """A wait took longer than it may. The text says what was waited for, and for how long."""


class Deadline:
    """A point in time until which to wait for `what`.

    Measured on the monotonic clock, which all processes of a Linux machine share.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self.what = what
        self._end = time.monotonic() + seconds

    def __repr__(self) -> str:
        return f"Deadline({self.what!r}, {self.remaining():.2f} of {self.seconds:g} s left)"

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def error(self) -> DeadlineExpired:
        """Make the exception that says that this deadline was missed."""
        return DeadlineExpired(f"{self.what}: nothing within {self.seconds:g} s")

    def check(self) -> None:
        """Raise `DeadlineExpired` when the time is over."""
        if self.expired:
            raise self.error()
