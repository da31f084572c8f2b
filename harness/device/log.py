# SPDX-License-Identifier: GPL-2.0-or-later
"""What was done to a device: every access with its time and value, for tests to read and to wait for."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from harness.deadline import Deadline
from harness.errors import GuestFailure

_KEPT = 100_000
"""Entries kept, the newest: a boot makes about a thousand."""
_VALUE_BITS = (1 << 8 * 64) - 1
"""What is kept of a value, the first 64 bytes: a client can read and write whole BARs, as often as it likes."""


_CONFIG = 7  # see harness.device.device.CONFIG


class Kind(StrEnum):
    """What an entry tells of."""

    READ = "read"
    WRITE = "write"
    RESET = "reset"
    FLR = "flr"
    DMA_READ = "dma-read"
    DMA_WRITE = "dma-write"
    DMA_ERROR = "dma-error"
    INTERRUPT = "interrupt"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class Entry(NamedTuple):
    """One thing that happened, `time` seconds (monotonic) after the device was made.

    For a READ or WRITE: `region` (a BAR's number, or `CONFIG`), `offset` and `length` in bytes, and the `value` that
    was given or taken, its first 64 bytes. For DMA `offset` is the address, for INTERRUPT `value` the vector.
    """

    time: float
    kind: Kind
    region: int = -1
    offset: int = 0
    length: int = 0
    value: int = 0

    def __str__(self) -> str:
        if self.region < 0:
            return f"{self.kind} {self.offset:#x}, {self.length} bytes, value {self.value:#x}"
        where = "config" if self.region == _CONFIG else f"BAR {self.region}"
        return f"{self.kind} {where} {self.offset:#x}, {self.length} bytes, value {self.value:#x}"


class NotSeen(GuestFailure):
    """What a test awaited was not done to the device in time."""


class AccessLog:
    """The newest entries, in their order. `dropped` says how many older ones are gone."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._made = time.monotonic()
        self._entries: deque[Entry] = deque(maxlen=kept)
        self._changed = threading.Condition()
        self.count = 0

    @property
    def dropped(self) -> int:
        """How many entries are not there any more."""
        return self.count - len(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())

    def add(self, kind: Kind, region: int = -1, offset: int = 0, length: int = 0, value: int = 0) -> None:
        """Note what has just happened."""
        entry = Entry(time.monotonic() - self._made, kind, region, offset, length, value & _VALUE_BITS)
        with self._changed:
            self._entries.append(entry)
            self.count += 1
            self._changed.notify_all()

    def entries(self, *, since: int = 0) -> list[Entry]:
        """Give the entries that are there, from the one on that was the `since`th (see `mark`)."""
        with self._changed:
            skipped = max(0, since - self.dropped)
            return list(itertools.islice(self._entries, skipped, None))

    def mark(self) -> int:
        """Give a place in the log, for `since`."""
        return self.count

    def reads(self, region: int, offset: int | None = None, *, since: int = 0) -> list[Entry]:
        """Give the reads of a region, or those of them that touch the byte at `offset`."""
        return [one for one in self.entries(since=since) if _is(one, Kind.READ, region, offset)]

    def writes(self, region: int, offset: int | None = None, *, since: int = 0) -> list[Entry]:
        """Give the writes, as `reads`."""
        return [one for one in self.entries(since=since) if _is(one, Kind.WRITE, region, offset)]

    def clear(self) -> None:
        """Forget all entries; marks, and the waits that are under way, go on counting."""
        with self._changed:
            self._entries.clear()

    def wait(self, matches: Callable[[Entry], bool], timeout: float = 10.0, *, since: int = 0) -> Entry:
        """Wait until something that `matches` has happened, `since` a mark. Raises `NotSeen`."""
        deadline = Deadline(timeout, "the device's log")
        while True:
            with self._changed:
                fresh, since = self.entries(since=since), self.count
            found = next(filter(matches, fresh), None)  # without the lock: it may look at the device
            if found is not None:
                return found
            if deadline.expired:
                last = "; ".join(map(str, self.entries()[-5:])) or "nothing"
                raise NotSeen(f"{deadline.error()}; the last entries: {last}")
            with self._changed:
                if self.count == since:
                    self._changed.wait(deadline.remaining())

    def save(self, path: Path) -> None:
        """Write all entries that are there, one JSON object a line. Raises `OSError`."""
        with path.open("w", encoding="utf-8") as stream:
            for entry in self.entries():
                stream.write(json.dumps(plain(entry)) + "\n")


def _is(entry: Entry, kind: Kind, region: int, offset: int | None) -> bool:
    if entry.kind is not kind or entry.region != region:
        return False
    return offset is None or entry.offset <= offset < entry.offset + entry.length


def plain(entry: Entry) -> dict[str, Any]:
    """Give an entry as `save` writes it."""
    fields = entry._asdict()
    if entry.kind in (Kind.RESET, Kind.FLR, Kind.CONNECTED, Kind.DISCONNECTED):
        fields = {name: fields[name] for name in ("time", "kind")}
    for name in ("offset", "value"):
        if name in fields:
            fields[name] = hex(fields[name])
    return fields
