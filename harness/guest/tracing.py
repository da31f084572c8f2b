# SPDX-License-Identifier: GPL-2.0-or-later
"""Which calls of a kernel function there were, and what memory was freed: by events of the guest's tracefs.

See Documentation/trace/kprobetrace.rst of the kernel. That an event at a function's return knows the arguments of its
entry is news of Linux 6.9.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from harness.errors import GuestFailure, UsageError
from harness.guest import agent
from harness.guest.guest import Guest

_TRACEFS = "/sys/kernel/tracing"
_EVENTS = f"{_TRACEFS}/kprobe_events"
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_READ_LIMIT = 1024 * 1024
"""Bytes of trace read: a hundred a call."""
_LINE_LIMIT = 1000
"""Characters of a line looked at."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Traced:
    """One call that has returned: the argument and the result that were asked for, both as `int`."""

    argument: int | None
    result: int | None


class Trace:
    """The calls of one function since the trace was begun."""

    def __init__(self, guest: Guest, line: re.Pattern[str]) -> None:
        self._guest, self._line = guest, line

    @property
    def calls(self) -> list[Traced]:
        """All calls that have returned until now, in that order. Raises `GuestFailure` where there are too many."""
        found = [match.groups() for match in map(self._line.search, _lines(self._guest)) if match]
        return [Traced(_number(argument), _number(result)) for argument, result in found]


@contextmanager
def traced(guest: Guest, symbol: str, *, argument: int | None = None, result: bool = False) -> Iterator[Trace]:
    """Watch the calls of a kernel function while the block lasts.

    `argument` is the place, from 1, of an argument that is an `int`; `result` says that it returns one. Raises
    `GuestErrno` (`ENOENT`) where the kernel has no such function, or knows it not to have these.
    """
    if not _SYMBOL.fullmatch(symbol):
        raise UsageError(f"{symbol!r} is no name of a kernel function")
    event = f"iov_{next(_numbers)}"
    probe, line = f"r:iov/{event} {symbol}", f" {event}: .*?"
    for name, fetched in (("argument", argument and f"$arg{argument}"), ("result", result and "$retval")):
        probe += f" {name}={fetched}:s32" if fetched else ""
        line += rf" {name}=(-?[0-9]{{1,10}})" if fetched else "()"
    guest.write(_EVENTS, f"{probe}\n")
    with _ending(lambda: _forget(guest, event)):
        guest.write(f"{_TRACEFS}/events/iov/{event}/enable", "1")
        yield Trace(guest, re.compile(f"{line}$"))


class Freed:
    """Whether memory was freed since this was made. Whoever gets it next may free it again."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._before = self._all()

    @property
    def happened(self) -> bool:
        """Whether it was given to kfree(). Raises `GuestFailure` where the trace is too long to be read."""
        return self._all() > self._before

    def _all(self) -> int:
        return sum(" kfree: " in line for line in _lines(self._guest))


@contextmanager
def freed(guest: Guest, address: int) -> Iterator[Freed]:
    """Watch, while the block lasts, whether what lies at an address of kernel memory is given to kfree()."""
    event = f"{_TRACEFS}/events/kmem/kfree"
    guest.write(f"{event}/filter", f"ptr == {address:#x}\n")
    watched = Freed(guest)
    with _ending(lambda: guest.write(f"{event}/enable", "0")):
        guest.write(f"{event}/enable", "1")
        yield watched


@contextmanager
def _ending(end: Callable[[], None]) -> Iterator[None]:
    """End an event with the block; where that went wrong the guest may be beyond listening, and what did so counts."""
    try:
        yield
    except BaseException:
        with suppress(GuestFailure):
            end()
        raise
    end()


def _lines(guest: Guest) -> list[str]:
    data = guest.agent.call(agent.read(f"{_TRACEFS}/trace", length=_READ_LIMIT)).value()
    if len(data) == _READ_LIMIT:
        raise GuestFailure(f"the guest's trace is too long to be read, over {_READ_LIMIT} bytes")
    return [line[:_LINE_LIMIT] for line in data.decode("utf-8", errors="replace").splitlines()]


def _forget(guest: Guest, event: str) -> None:
    guest.write(f"{_TRACEFS}/events/iov/{event}/enable", "0")
    guest.write(_EVENTS, f"-:iov/{event}\n")


def _number(text: str) -> int | None:
    return int(text) if text else None
