# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's options, from a rendered template to words and to a line for a shell."""

from __future__ import annotations

import shlex

import pytest

from harness.errors import UsageError
from harness.qemu.options import Option, argv, parse, shell

AWKWARD = """{"driver": "a b", "id": "it's", "x": "$HOME `id` \\\\ !"}"""


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("-nodefaults", Option("-nodefaults")),
        ("-m 1024M", Option("-m", "1024M")),
        ("   -m    1024M   ", Option("-m", "1024M")),
        ("-m\t1024M", Option("-m", "1024M")),
        ("-append console=ttyS0 -v  x", Option("-append", "console=ttyS0 -v  x")),
        (f"-device {AWKWARD}", Option("-device", AWKWARD)),
        ("-kernel /a,b c", Option("-kernel", "/a,b c")),
    ],
)
def test_a_line_is_a_name_and_one_argument(line: str, option: Option) -> None:
    assert parse(line, "x.j2") == (option,)


@pytest.mark.parametrize("rendered", ["", "\n\n", "  \n\t\n"])
def test_blank_lines_are_no_options(rendered: str) -> None:
    assert parse(rendered, "x.j2") == ()


def test_options_keep_their_order_and_their_repetitions() -> None:
    options = parse("-device b\n\n-device a\n-device b\n", "x.j2")
    assert [option.argument for option in options] == ["b", "a", "b"]


@pytest.mark.parametrize("line", ["m 1024M", "# -m 1024M", "{{ x }}", "1024M", "\u2013m 1024M"])
def test_a_line_that_is_no_option_is_refused_naming_template_and_line(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(f"-nodefaults\n{line}\n", "mine.j2")
    assert str(caught.value) == f"template mine.j2: a line must be one QEMU option (-NAME ARGUMENT), not {line!r}"


def test_words_for_a_command_line_are_one_or_two_an_option() -> None:
    assert argv(parse("-nodefaults\n-m 1G\n", "x.j2")) == ["-nodefaults", "-m", "1G"]


def test_a_line_for_a_shell_means_what_the_words_say() -> None:
    options = [Option("-nodefaults"), Option("-device", AWKWARD), Option("-append", "")]
    line = shell("/opt/my qemu", options)
    assert shlex.split(line.replace("\\\n", "")) == ["/opt/my qemu", *argv(options)]
    assert len(line.splitlines()) == 1 + len(options)
