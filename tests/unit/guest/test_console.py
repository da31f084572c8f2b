# SPDX-License-Identifier: GPL-2.0-or-later
"""A console, captured by the real loop from one end of a socket pair; the guest writes to the other."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.guest import console as module
from harness.guest.console import Console
from harness.guest.reports import REPORTS_KEPT, ReportKind
from harness.qemu.loop import the_loop

LINE_LIMIT = 4096


def soon() -> Deadline:
    return Deadline(30, "the console")


class Captured:
    """A console with the guest's end of it, and the lines of which it told."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.told: list[tuple[str, str]] = []
        self.console = Console(the_loop(), log, lambda line: self.told.append((line, threading.current_thread().name)))
        self.guest, connection = socket.socketpair()
        self.guest.settimeout(30)
        self.console.capture(connection)

    @property
    def lines(self) -> list[str]:
        return [line for line, _ in self.told]

    def say(self, data: bytes) -> None:
        self.guest.sendall(data)
        self.console.catch_up(soon(), ended=False)

    def end(self) -> None:
        self.guest.close()
        self.console.catch_up(soon(), ended=True)

    def said(self, data: bytes) -> list[str]:
        """Say everything that the guest ever says, and give what became of it."""
        self.guest.sendall(data)
        self.end()
        return self.lines


@pytest.fixture
def captured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Captured]:
    """Make a captured console, and check that its end upsets nobody."""
    made = Captured(tmp_path / "console.log")
    yield made
    made.guest.close()
    made.console.close()
    del made
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_lines_are_told_in_order_in_the_loops_thread_and_kept(captured: Captured) -> None:
    captured.say(b"one\ntwo\nthr")
    captured.say(b"ee\n")
    assert captured.told == [(line, "iov-harness-loop") for line in ("one", "two", "three")]
    assert captured.console.tail() == ["one", "two", "three"]
    assert captured.console.tail(2) == ["two", "three"]
    assert captured.console.position == 3


def test_a_character_that_comes_in_pieces_stays_whole(captured: Captured) -> None:
    for byte in "grün\n".encode():
        captured.say(bytes([byte]))
    assert captured.lines == ["grün"]


def test_a_line_that_is_not_ended_is_told_when_the_console_ends(captured: Captured) -> None:
    captured.say(b"login: ")
    assert captured.lines == []
    captured.end()
    assert captured.lines == ["login: "]


def test_a_carriage_return_in_its_midst_parts_a_line_in_two(captured: Captured) -> None:
    assert captured.said(b"10%\r100%\r\nnext\r\r\n") == ["10%", "100%", "next"]


def test_no_escape_reaches_a_line_but_the_log_holds_what_came(captured: Captured) -> None:
    raw = b"\x1b[2J\x1b]0;owned\x07\x1b[31mred\x1b[0m\x00\x9b\n\x1b]0;\nBUG: seen\n"
    assert captured.said(raw) == ["red\ufffd", "", "BUG: seen"]
    assert captured.log.read_bytes() == raw


def test_an_escape_cut_in_two_by_the_limit_of_a_line_does_not_pass(captured: Captured) -> None:
    lines = captured.said(b"x" * (LINE_LIMIT - 2) + b"\x1b[31mred\n")
    assert lines == ["x" * (LINE_LIMIT - 2)]


@pytest.mark.parametrize("size", [LINE_LIMIT, LINE_LIMIT + 1, 5_000_000])
def test_a_long_line_is_cut_and_the_one_after_it_is_found(captured: Captured, size: int) -> None:
    lines = captured.said(b"x" * size + b"\nafter\n")
    assert lines[0] == "x" * LINE_LIMIT
    assert lines[-1] == "after"
    assert max(map(len, lines)) == LINE_LIMIT


def test_a_line_that_is_never_ended_is_told_bit_by_bit(captured: Captured) -> None:
    captured.say(b"x" * (LINE_LIMIT + 1))
    assert captured.lines == ["x" * LINE_LIMIT]
    captured.say(b"y" * (LINE_LIMIT + 1))
    assert captured.lines == ["x" * LINE_LIMIT, "y" * LINE_LIMIT]


def test_of_a_flood_of_lines_the_last_ones_are_kept_and_all_are_counted(captured: Captured) -> None:
    count = 25_000
    captured.said(b"".join(b"%d\n" % number for number in range(count)))
    kept = captured.console.tail(count)
    assert len(kept) <= 20_000
    assert kept == [str(number) for number in range(count - len(kept), count)]
    assert captured.console.position == count


def test_the_log_on_disk_is_bounded_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 1000)
    captured = Captured(tmp_path / "console.log")
    for _ in range(5):
        captured.say(b"x" * 299 + b"\n")
    captured.console.close()
    captured.guest.close()
    log = captured.log.read_bytes()
    assert log[:1000] == (b"x" * 299 + b"\n") * 3 + b"x" * 100
    assert log[1000:] == b"\n[iov-harness: the console went on; this log ends here]\n"
    assert captured.console.position == 5


def test_a_full_disk_is_noted_and_the_console_still_heard(tmp_path: Path) -> None:
    (tmp_path / "console.log").symlink_to("/dev/full")
    captured = Captured(tmp_path / "console.log")
    assert captured.console.broken is None
    captured.say(b"one\n")
    captured.say(b"Kernel panic - not syncing: x\n")
    assert captured.lines == ["one", "Kernel panic - not syncing: x"]
    assert captured.console.broken is not None
    assert captured.console.broken.errno == errno.ENOSPC
    assert [report.kind for report in captured.console.reports()] == [ReportKind.PANIC]
    captured.end()
    captured.console.close()


def test_an_earlier_log_is_kept(captured: Captured) -> None:
    captured.said(b"first\n")
    again = Captured(captured.log)
    again.said(b"second\n")
    again.console.close()
    assert captured.log.read_bytes() == b"first\nsecond\n"


def test_what_the_kernel_complains_of_is_reported_while_it_still_speaks(captured: Captured) -> None:
    captured.say(b"booting\nBUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1\n\tmore\n")
    (report,) = captured.console.reports()
    assert (report.kind, report.line_number) == (ReportKind.BUG, 2)
    captured.say(b"Kernel panic - not syncing: x\n")
    assert [report.kind for report in captured.console.reports()] == [ReportKind.BUG, ReportKind.PANIC]


def test_of_a_flood_of_reports_it_is_told_how_many_are_not_given(captured: Captured) -> None:
    captured.say(b"BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1\n" * REPORTS_KEPT)
    assert not captured.console.dropped
    captured.say(b"BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1\n" * 2)
    assert captured.console.dropped == {ReportKind.BUG: 2}
    assert len(captured.console.reports()) == REPORTS_KEPT


def test_a_line_that_has_come_is_found_at_once(captured: Captured) -> None:
    captured.say(b"one\nmark 12\nmark 13\n")
    assert captured.console.wait_line(r"mark \d+$", Deadline(0, "x")) == "mark 12"


def test_a_line_that_is_still_to_come_is_waited_for(captured: Captured) -> None:
    sender = threading.Thread(target=captured.guest.sendall, args=(b"one\nmark\n",))
    sender.start()
    assert captured.console.wait_line("mark", soon()) == "mark"
    sender.join()


def test_a_line_before_the_position_given_does_not_count(captured: Captured) -> None:
    captured.say(b"mark 1\n")
    position = captured.console.position
    with pytest.raises(DeadlineExpired, match=r"^x: nothing within 0\.01 s"):
        captured.console.wait_line("mark", Deadline(0.01, "x"), since=position)
    captured.say(b"mark 2\n")
    assert captured.console.wait_line("mark", soon(), since=position) == "mark 2"


def test_a_flood_does_not_hide_the_line_that_is_waited_for(captured: Captured) -> None:
    position = captured.console.position
    flood = b"".join(b"noise %d\n" % number for number in range(10_000))
    sender = threading.Thread(target=captured.guest.sendall, args=(flood + b"mark\n" + flood[:1000],))
    sender.start()
    assert captured.console.wait_line("^mark$", soon(), since=position) == "mark"
    sender.join()


def test_a_flood_does_not_keep_a_wait_from_ending_in_time(captured: Captured) -> None:
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            captured.guest.sendall(b"noise\n" * 1000)

    sender = threading.Thread(target=flood)
    sender.start()
    start = time.monotonic()
    try:
        with pytest.raises(DeadlineExpired):
            captured.console.wait_line("mark", Deadline(0.2, "x"))
        assert time.monotonic() - start < 10
    finally:
        over.set()
        sender.join()


def test_nothing_more_is_waited_for_once_the_console_has_ended(captured: Captured) -> None:
    captured.said(b"one\n")
    with pytest.raises(DeadlineExpired, match=r"^the console: it has ended"):
        captured.console.wait_line("mark", soon())


def test_whoever_waits_learns_that_the_console_ends(captured: Captured) -> None:
    ending = threading.Thread(target=captured.guest.close)
    start = time.monotonic()
    ending.start()
    with pytest.raises(DeadlineExpired, match="it has ended"):
        captured.console.wait_line("mark", soon())
    assert time.monotonic() - start < 10
    ending.join()


def test_a_line_that_comes_with_the_end_is_found(tmp_path: Path) -> None:
    for attempt in range(30):
        captured = Captured(tmp_path / f"{attempt}.log")
        sender = threading.Thread(target=captured.said, args=(b"mark",))
        sender.start()
        assert captured.console.wait_line("mark", soon()) == "mark"
        sender.join()
        captured.console.close()


def test_a_pattern_that_is_none_is_refused_before_waiting(captured: Captured) -> None:
    with pytest.raises(re.error):
        captured.console.wait_line("(", soon())


def test_catching_up_takes_everything_that_was_sent(captured: Captured) -> None:
    for number in range(1, 51):
        captured.guest.sendall(b"x" * 999 + b"\n" + b"y\n" * 500)
        captured.console.catch_up(soon(), ended=False)
        assert captured.console.position == number * 501


def test_catching_up_takes_what_came_before_anybody_captured_it(tmp_path: Path) -> None:
    for attempt in range(20):
        guest, connection = socket.socketpair()
        console = Console(the_loop(), tmp_path / f"{attempt}.log")
        guest.sendall(b"early\n")
        console.capture(connection)
        console.catch_up(soon(), ended=False)
        assert console.position == 1
        guest.close()
        console.close()


def test_catching_up_with_a_console_that_does_not_end_ends_in_time(captured: Captured) -> None:
    captured.console.catch_up(Deadline(0.01, "x"), ended=True)
    captured.say(b"still there\n")
    assert captured.lines == ["still there"]


def test_closing_takes_what_came_and_nothing_more(captured: Captured) -> None:
    captured.guest.sendall(b"one\ntwo")
    captured.console.close()
    assert captured.lines == ["one", "two"]
    with pytest.raises(BrokenPipeError):
        captured.guest.sendall(b"three\n")
    assert captured.log.read_bytes() == b"one\ntwo"
    captured.console.close()


def test_a_console_can_be_closed_under_a_flood(captured: Captured) -> None:
    def flood() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                captured.guest.sendall(b"noise\n" * 1000)

    sender = threading.Thread(target=flood)
    sender.start()
    captured.console.wait_line("noise", soon())
    captured.console.close()
    position = captured.console.position
    sender.join()
    captured.console.catch_up(soon(), ended=True)
    assert captured.console.position == position == len(captured.lines)


def test_a_console_that_captures_nothing_has_nothing_and_can_be_closed(tmp_path: Path) -> None:
    console = Console(the_loop(), tmp_path / "console.log")
    console.catch_up(soon(), ended=True)
    assert (console.tail(), console.reports(), console.position) == ([], [], 0)
    console.close()
