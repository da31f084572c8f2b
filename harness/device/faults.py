# SPDX-License-Identifier: GPL-2.0-or-later
"""How a device is made to misbehave while a guest uses it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Self

FOREVER = None
"""As often as it happens."""


class NoReply(Exception):
    """An access is to stay without an answer."""


@dataclass(eq=False)
class Fault:
    """One misbehaviour, in force until it has happened `times` times (None: always), or `end` is called.

    It holds for accesses to `region` (None: to all), there to the bytes from `offset` on (None: to all bytes), but not
    for the first `after` of them. As a context manager it ends with its block. `happened` counts.
    """

    times: int | None
    region: int | None = None
    offset: int | None = None
    length: int = 1
    value: bytes | None = None
    all_ones: bool = False
    delay: float = 0.0
    silent: bool = False
    after: int = 0
    happened: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def is_over(self) -> bool:
        """Whether it is no longer in force."""
        return self._over.is_set()

    def end(self) -> None:
        """Let the device behave again; an access that is being delayed is answered now."""
        self._over.set()

    def takes(self, region: int, offset: int, count: int) -> bool:
        """Tell whether it is in force for an access that is made now."""
        if self.is_over or self.region not in (None, region):
            return False
        if self.offset is not None and not (self.offset < offset + count and offset < self.offset + self.length):
            return False
        self.after -= 1
        return self.after < 0

    def strike(self) -> None:
        """Let it happen: waits where it is a delay. Raises `NoReply`."""
        self.happened += 1
        if self.delay:
            self._over.wait(self.delay)
        if self.times is not None and self.happened >= self.times:
            self.end()
        if self.silent:
            raise NoReply

    def altered(self, offset: int, data: bytes) -> bytes:
        """Give what a read of `data` at `offset` gives instead."""
        if self.all_ones:
            return b"\xff" * len(data)
        if self.value is None or self.offset is None:
            return data
        changed = bytearray(data)
        for place, byte in enumerate(self.value, self.offset - offset):
            if 0 <= place < len(changed):
                changed[place] = byte
        return bytes(changed)


class Faults:
    """The misbehaviours of one device. Each method that makes one also gives it, to `end` it or to count."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def all_ones(self, region: int | None = None, *, times: int | None = FOREVER, after: int = 0) -> Fault:
        """Answer reads with all ones and drop writes, as a device that is gone: everywhere, or in one region.

        The first `after` accesses are answered truly: then it goes in the midst of what is done to it.
        """
        return self._add(Fault(times, region, all_ones=True, after=after))

    def wrong_value(self, region: int, offset: int, value: int, length: int, *, times: int | None = FOREVER) -> Fault:
        """Answer reads of the `length` bytes at `offset` of a region with `value`, whatever they hold."""
        return self._add(Fault(times, region, offset, length, value.to_bytes(length, "little")))

    def delay(self, seconds: float, region: int | None = None, *, times: int | None = FOREVER) -> Fault:
        """Answer each access only after `seconds`. QEMU waits 5 s for an answer (`x-msg-timeout`)."""
        return self._add(Fault(times, region, delay=seconds))

    def no_reply(self, region: int | None = None, *, times: int | None = FOREVER) -> Fault:
        """Do not answer accesses at all."""
        return self._add(Fault(times, region, silent=True))

    def clear(self) -> None:
        """End all of them."""
        with self._lock:
            for fault in self._faults:
                fault.end()
            self._faults = []

    def on_read(self, region: int, offset: int, data: bytes) -> bytes:
        """Give what a read gives in place of `data`. Raises `NoReply`."""
        for fault in self._in_force(region, offset, len(data)):
            fault.strike()
            data = fault.altered(offset, data)
        return data

    def on_write(self, region: int, offset: int, count: int) -> bool:
        """Tell whether a write is to be dropped. Raises `NoReply`."""
        dropped = False
        for fault in self._in_force(region, offset, count):
            if fault.value is None:
                fault.strike()
                dropped |= fault.all_ones
        return dropped

    def _in_force(self, region: int, offset: int, count: int) -> list[Fault]:
        return [fault for fault in self._faults if fault.takes(region, offset, count)]

    def _add(self, fault: Fault) -> Fault:
        with self._lock:  # always a new list: an access that is going on has the one before
            self._faults = [*(one for one in self._faults if not one.is_over), fault]
        return fault
