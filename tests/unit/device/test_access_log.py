# SPDX-License-Identifier: GPL-2.0-or-later
"""What was done to a device: kept within bounds, found by place, and waited for without polling."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from toy_device import BAR, SCRATCH, Board, Toy, enable, read, write

from harness.device.device import CONFIG
from harness.device.log import AccessLog, Entry, Kind, NotSeen
from harness.errors import GuestFailure


def never(_: Entry) -> bool:
    return False


def is_read(entry: Entry) -> bool:
    return entry.kind is Kind.READ


def test_every_access_is_noted_with_its_place_and_its_value() -> None:
    toy = Toy()
    write(toy, SCRATCH, 0xCAFE)
    read(toy, SCRATCH)
    toy.read(CONFIG, 0, 2)
    assert [entry[1:] for entry in toy.log] == [
        (Kind.WRITE, BAR, SCRATCH, 4, 0xCAFE), (Kind.READ, BAR, SCRATCH, 4, 0xCAFE), (Kind.READ, CONFIG, 0, 2, 0x1AF4),
    ]  # fmt: skip


def test_what_a_device_does_itself_is_noted_too() -> None:
    toy = Toy()
    toy.attach(Board())
    enable(toy)
    mark = toy.log.mark()
    toy.dma_write(0x10, b"abc")
    toy.dma_read(0x20, 2)
    toy.interrupt(3)
    toy.reset()
    toy.detach()
    assert [entry[1:] for entry in toy.log.entries(since=mark)] == [
        (Kind.DMA_WRITE, -1, 0x10, 3, 0), (Kind.DMA_READ, -1, 0x20, 2, 0), (Kind.INTERRUPT, -1, 0, 0, 3),
        (Kind.RESET, -1, 0, 0, 0), (Kind.DISCONNECTED, -1, 0, 0, 0),
    ]  # fmt: skip


def test_times_never_go_back_and_begin_near_zero() -> None:
    log = AccessLog()
    for _ in range(10):
        log.add(Kind.READ)
    times = [entry.time for entry in log]
    assert times == sorted(times)
    assert 0 <= times[0] < 20


def test_only_the_newest_entries_are_kept() -> None:
    log = AccessLog(kept=3)
    for number in range(10):
        log.add(Kind.READ, value=number)
    assert [entry.value for entry in log] == [7, 8, 9]
    assert (len(log), log.count, log.dropped) == (3, 10, 7)


def test_a_long_value_is_kept_in_part() -> None:
    """A client may read a BAR of megabytes in one message, as often as it likes."""
    log = AccessLog()
    log.add(Kind.READ, BAR, 0, 1 << 20, int.from_bytes(b"\xa5" * (1 << 20), "little"))
    (entry,) = log
    assert entry.length == 1 << 20
    assert entry.value == int.from_bytes(b"\xa5" * 64, "little")
    assert sys.getsizeof(entry.value) < 200


def test_a_mark_separates_what_was_from_what_comes() -> None:
    log = AccessLog()
    log.add(Kind.READ, BAR, 0)
    mark = log.mark()
    assert log.entries(since=mark) == []
    log.add(Kind.READ, BAR, 4)
    log.add(Kind.WRITE, BAR, 8)
    assert [entry.offset for entry in log.entries(since=mark)] == [4, 8]
    assert [entry.offset for entry in log.reads(BAR, since=mark)] == [4]
    assert [entry.offset for entry in log.writes(BAR, since=mark)] == [8]


def test_a_mark_holds_when_what_stood_at_it_is_gone() -> None:
    log = AccessLog(kept=2)
    mark = log.mark()
    for number in range(5):
        log.add(Kind.READ, value=number)
    assert [entry.value for entry in log.entries(since=mark)] == [3, 4]
    assert [entry.value for entry in log.entries(since=mark + 4)] == [4]
    assert log.entries(since=log.mark()) == []


def test_a_mark_holds_when_the_log_is_cleared() -> None:
    log = AccessLog()
    for number in range(5):
        log.add(Kind.READ, value=number)
    mark = log.mark()
    log.clear()
    assert len(log) == 0
    log.add(Kind.READ, value=5)
    assert [entry.value for entry in log.entries(since=mark)] == [5]
    assert [entry.value for entry in log] == [5]


def test_accesses_are_found_by_region_and_by_the_bytes_that_they_touch() -> None:
    log = AccessLog()
    for region, offset, length in ((0, 0, 4), (0, 4, 4), (0, 2, 4), (1, 4, 4)):
        log.add(Kind.READ, region, offset, length)
        log.add(Kind.WRITE, region, offset, length)
    assert [entry.offset for entry in log.reads(0)] == [0, 4, 2]
    assert [entry.offset for entry in log.reads(0, 4)] == [4, 2]
    assert [entry.offset for entry in log.reads(0, 3)] == [0, 2]
    assert [entry.offset for entry in log.writes(1, 7)] == [4]
    assert log.writes(1, 8) == log.reads(2) == []


def test_what_has_happened_need_not_be_waited_for() -> None:
    log = AccessLog()
    log.add(Kind.READ, value=1)
    log.add(Kind.READ, value=2)
    assert log.wait(is_read, 0).value == 1
    assert log.wait(is_read, 0, since=1).value == 2


class Awaiting:
    """Matches one kind.

    What it looks at first is in the log already: after `begun`, the wait holds the log's lock until it sleeps, so that
    what is added then must wake it.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.begun = threading.Event()
        self.looked: list[int] = []

    def __call__(self, entry: Entry) -> bool:
        self.begun.set()
        self.looked.append(entry.value)
        return entry.kind is self.kind


def test_waits_are_woken_by_what_happens_and_look_at_each_entry_once() -> None:
    log = AccessLog()
    log.add(Kind.READ, value=0)
    awaited = [Awaiting(Kind.WRITE), Awaiting(Kind.FLR)]
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(log.wait, one, 60) for one in awaited]
        assert all(one.begun.wait(20) for one in awaited)
        for value, kind in enumerate((Kind.READ, Kind.FLR, Kind.WRITE), 1):
            log.add(kind, value=value)
        assert [wait.result(20).value for wait in waits] == [3, 2]
    assert [one.looked for one in awaited] == [[0, 1, 2, 3], [0, 1, 2]]
    assert time.monotonic() - started < 20


def test_a_wait_goes_on_when_the_log_is_cleared_meanwhile() -> None:
    log = AccessLog()
    log.add(Kind.READ)
    awaited = Awaiting(Kind.WRITE)
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(log.wait, awaited, 10)
        assert awaited.begun.wait(20)
        log.clear()
        log.add(Kind.WRITE)
        assert wait.result(20).kind is Kind.WRITE


def test_what_is_not_seen_in_time_is_the_guests_failure_and_told_with_the_last_entries() -> None:
    log = AccessLog()
    for number in range(7):
        log.add(Kind.WRITE, CONFIG if number % 2 else BAR, 0x1234, 4, number)
    with pytest.raises(NotSeen, match=r"the device's log: nothing within 0.01 s; the last entries: ") as missed:
        log.wait(never, 0.01)
    assert isinstance(missed.value, GuestFailure)
    assert str(missed.value).partition("entries: ")[2].split("; ") == [
        "write BAR 0 0x1234, 4 bytes, value 0x2", "write config 0x1234, 4 bytes, value 0x3",
        "write BAR 0 0x1234, 4 bytes, value 0x4", "write config 0x1234, 4 bytes, value 0x5",
        "write BAR 0 0x1234, 4 bytes, value 0x6",
    ]  # fmt: skip
    with pytest.raises(NotSeen, match="the last entries: nothing"):
        AccessLog().wait(never, 0)


def test_the_log_is_saved_as_one_object_a_line(tmp_path: Path) -> None:
    log = AccessLog()
    log.add(Kind.CONNECTED)
    log.add(Kind.WRITE, CONFIG, 0x44, 2, 0x8000)
    log.save(tmp_path / "log.jsonl")
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert first == {"time": first["time"], "kind": "connected"}
    assert second == {
        "time": second["time"], "kind": "write", "region": 7, "offset": "0x44", "length": 2, "value": "0x8000",
    }  # fmt: skip
