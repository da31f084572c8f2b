# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hostile guest may write, and what of it a terminal, a log or a report gets to see."""

from __future__ import annotations

import time

import pytest

from harness.text import clipped, count, decoded, printable


@pytest.mark.parametrize(
    "escape",
    [
        "\x1b[31m",
        "\x1b[0;1;31m",
        "\x1b[?1049h",
        "\x1b[2J",
        "\x1b[1 q",
        "\x1b]0;title\x07",
        "\x1b]0;title\x1b\\",
        "\x1b]0;title\x9c",
        "\x1b]8;;http://example.org\x1b\\",
        "\x1bP1$r0m\x1b\\",
        "\x1b^private\x1b\\",
        "\x1b_application\x1b\\",
        "\x1bXstart\x1b\\",
        "\x1bc",
        "\x1b(B",
        "\x1b#8",
        "\x1b7",
    ],
)
def test_a_terminal_escape_vanishes_and_the_text_around_it_stays(escape: str) -> None:
    assert printable(f"before{escape}after") == "beforeafter"


@pytest.mark.parametrize(
    "text",
    [
        "\x1b",
        "\x1b[",
        "\x1b[31",
        "\x1b]0;never ended",
        "\x1b\x1b[0m[31m",
        "\x1b[\x1b[0m31m",
        "\x1b\x00[31m",
        "\x1b]\x1b]0;x\x07\x07",
        "\x9b31m",
        "\x9d0;x\x9c",
    ],
)
def test_no_mangled_or_nested_escape_leaves_a_control_character(text: str) -> None:
    assert printable(text).isprintable()


def test_a_string_that_is_never_ended_hides_no_more_than_the_rest_of_its_line() -> None:
    assert printable("one\x1b]0;two\nBUG: three\n") == "one\nBUG: three\n"


@pytest.mark.parametrize("code", [*range(9), *range(0x0B, 0x0D), *range(0x0E, 0x20), *range(0x7F, 0xA0)])
def test_a_control_character_vanishes(code: int) -> None:
    assert printable(f"a{chr(code)}") == "a"


@pytest.mark.parametrize("code", [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_a_character_that_reorders_what_is_read_vanishes(code: int) -> None:
    assert printable(f"user{chr(code)}nimda") == "usernimda"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_no_character_but_newline_parts_lines(separator: str) -> None:
    assert printable(f"a{separator}b").splitlines() == ["ab"]


def test_tabs_newlines_and_letters_of_any_language_stay() -> None:
    text = "\tgrün, 緑, 🟩\n"
    assert printable(text) == text


@pytest.mark.parametrize("raw", ["a\r\nb", "a\rb", "a\nb"])
def test_every_kind_of_line_end_becomes_a_newline(raw: str) -> None:
    assert printable(raw) == "a\nb"


def test_bytes_that_are_not_utf_8_show_as_replacement_characters() -> None:
    assert decoded(b"a\xff\xc3(b\xed\xa0\x80") == "a\ufffd\ufffd(b\ufffd\ufffd\ufffd"


def test_an_escape_made_of_eight_bit_controls_does_not_pass() -> None:
    assert decoded(b"\xc2\x9b31mred\xc2\x9b0m") == "31mred0m"
    assert decoded(b"\x9b31mred").isprintable()


@pytest.mark.parametrize("unit", ["\x1b[", "\x1b]", "\x1b]0;", "\x1b[0", "\x1b ", "\x1bP\x1b", "\x1b[;" + ";" * 50])
def test_escapes_without_end_take_no_more_than_linear_time(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    start = time.process_time()
    assert printable(text).isprintable()
    assert time.process_time() - start < 5


@pytest.mark.parametrize("limit", [4, 5, 10])
def test_a_text_within_the_limit_stays_whole(limit: int) -> None:
    assert clipped("abcd", limit) == "abcd"


def test_a_long_text_keeps_both_its_ends_and_says_how_much_is_left_out() -> None:
    assert clipped("a" * 50 + "b" * 50, 10) == "aaaaa\n[... 90 characters left out ...]\nbbbbb"


@pytest.mark.parametrize("limit", range(8))
def test_no_more_than_the_limit_is_kept_and_all_else_is_counted(limit: int) -> None:
    head, note, tail = clipped("x" * 20, limit).split("\n")
    assert len(head + tail) <= limit
    assert f"[... {20 - len(head + tail)} characters left out ...]" == note


@pytest.mark.parametrize(
    ("number", "what", "said"),
    [(1, "patch", "1 patch"), (2, "patch", "2 patches"), (0, "test", "0 tests"), (3, "new warning", "3 new warnings")],
)
def test_things_are_counted_in_words(number: int, what: str, said: str) -> None:
    assert count(number, what) == said
