# SPDX-License-Identifier: GPL-2.0-or-later
"""Text to be shown: made safe where a guest wrote it, and of no more than can be read.

A guest is hostile: what it prints may carry terminal escapes, control characters or no end.
"""

from __future__ import annotations

import re

# ECMA-48: CSI sequences, OSC/DCS/PM/APC/SOS strings up to their terminator, then two-byte escapes. A string that is
# never ended goes no further than its line, lest it hide what the kernel says after it.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?|[ -/]*[0-~])")
# C0 but tab and newline, DEL, C1, line separators, and the bidirectional controls that reorder what a reader sees.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Give `text` without terminal escapes and without control characters other than tab and newline."""
    return _CONTROL.sub("", _ESCAPE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def decoded(data: bytes) -> str:
    """Give what a guest wrote as printable text; bytes that are not UTF-8 show as U+FFFD."""
    return printable(data.decode("utf-8", errors="replace"))


def count(number: int, what: str) -> str:
    """Give a number of things: `1 patch`, `2 patches`, `3 tests`."""
    ending = "" if number == 1 else "es" if what.endswith(("ch", "s", "x")) else "s"
    return f"{number} {what}{ending}"


def clipped(text: str, limit: int) -> str:
    """Give at most `limit` characters of `text`, saying how many were left out in the middle."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[len(text) - half :]}"
