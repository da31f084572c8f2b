# SPDX-License-Identifier: GPL-2.0-or-later
"""The console of a clone, which begins with what that of its base machine had said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_console import Captured, soon

from harness.deadline import Deadline
from harness.guest.reports import REPORTS_KEPT, ReportKind

BUG = b"BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1\n"
SAID = b"[    0.0] Linux version\r\n" + BUG + b"[    2.0] iov-harness: ready\r\n"
MARK = b"[iov-harness: restored from a checkpoint, which was made here]\n"


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Captured]:
    """Make the console of a machine that has yet to say anything."""
    made = Captured(tmp_path / "console.log")
    yield made
    made.guest.close()
    made.console.close()


def test_the_base_machines_lines_are_the_clones_first(clone: Captured) -> None:
    clone.console.recall(SAID)
    clone.say(b"[    3.0] mine\n")
    assert clone.console.tail() == ["[    0.0] Linux version", BUG.decode().rstrip(), "[    2.0] iov-harness: ready",
                                    "[    3.0] mine"]  # fmt: skip
    assert clone.console.position == 4
    assert clone.console.wait_line("Linux version", Deadline(0, "x")).endswith("version")


def test_the_file_begins_with_them_and_says_where_they_end(clone: Captured) -> None:
    clone.console.recall(SAID)
    clone.say(b"mine\n")
    assert clone.log.read_bytes() == SAID + MARK + b"mine\n"


def test_nobody_is_told_of_them_for_they_say_nothing_of_this_machine(clone: Captured) -> None:
    clone.console.recall(SAID + b"Kernel panic - not syncing: x\n")
    assert clone.lines == []
    clone.say(b"mine\n")
    assert clone.lines == ["mine"]


def test_what_the_kernel_complained_of_in_the_base_machine_counts(clone: Captured) -> None:
    clone.console.recall(SAID)
    (report,) = clone.console.reports()
    assert (report.kind, report.line_number) == (ReportKind.BUG, 2)
    clone.say(b"Kernel panic - not syncing: x\n")
    assert [one.kind for one in clone.console.reports()] == [ReportKind.BUG, ReportKind.PANIC]


def test_of_a_flood_of_its_reports_it_is_known_how_many_were_not_kept(clone: Captured) -> None:
    clone.console.recall(BUG * (REPORTS_KEPT + 2))
    assert clone.console.dropped == {ReportKind.BUG: 2}


def test_a_line_that_the_checkpoint_cut_off_is_in_the_file_alone(clone: Captured) -> None:
    clone.console.recall(b"whole\nhal")
    clone.say(b"mine\n")
    assert clone.console.tail() == ["whole", "mine"]
    assert clone.log.read_bytes().startswith(b"whole\nhal")


def test_escapes_and_long_lines_are_taken_as_from_a_console(clone: Captured) -> None:
    said = b"\x1b[31mred\x1b[0m\xff\n" + b"x" * 5000 + b"\nlast\n"
    clone.console.recall(said)
    assert clone.console.tail() == ["red\ufffd", "x" * 4096, "last"]
    assert clone.log.read_bytes() == said + MARK


def test_it_takes_its_part_of_the_room_on_disk(clone: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone.console, "_room", len(SAID + MARK) + 4)
    clone.console.recall(SAID)
    clone.say(b"mine and more\n")
    assert clone.log.read_bytes().startswith(SAID + MARK + b"mine\n[iov-harness: the console went on")


def test_waiters_find_a_line_that_was_recalled_but_not_after_it(clone: Captured) -> None:
    clone.console.recall(SAID)
    since = clone.console.position
    clone.guest.sendall(b"[    3.0] iov-harness: ready again\n")
    assert clone.console.wait_line("ready", soon(), since=since).endswith("again")
