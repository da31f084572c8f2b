# SPDX-License-Identifier: GPL-2.0-or-later
"""Exit codes and records."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.outcome import Outcome, Verdict, bisect_code, exit_code
from harness.text import clipped, printable


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 5),
        (["PASS", "SKIP", "KNOWN"], 0),
        (["PASS", "ERROR"], 4),
        (["ERROR", "MISS"], 3),
        (["ERROR", "MISS", "FAIL"], 1),
    ],
)
def test_the_worst_news_is_the_exit_code(outcomes: list[str], code: int) -> None:
    assert exit_code(Outcome(word) for word in outcomes) == code


@pytest.mark.parametrize(("code", "told"), [(0, 0), (1, 1), (2, 128), (3, 125), (4, 125), (5, 125), (130, 130)])
def test_git_bisect_skips_what_says_nothing_of_the_kernel(code: int, told: int) -> None:
    assert bisect_code(code) == told


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    verdict = Verdict(test="a::b", outcome=Outcome.MISS, stage="kernel", seconds=1.5)
    verdict.save(tmp_path)
    assert '"schema": 1' in (tmp_path / "outcome.json").read_text()
    assert Verdict.load(tmp_path) == verdict


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\x00b\x08c\x7f", "abc"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
        ("\u202eevil", "evil"),
        ("\x9b2Jx", "2Jx"),
    ],
)
def test_what_a_guest_prints_cannot_touch_the_terminal(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


def test_a_long_text_is_cut_in_its_middle_and_says_so() -> None:
    assert clipped("a" * 50 + "b" * 50, 20) == "aaaaaaaaaa\n[... 80 characters left out ...]\nbbbbbbbbbb"
