# SPDX-License-Identifier: GPL-2.0-or-later
"""Printing for people: text as it is, never taken for markup; in a pipe, no line wrapped and no cell cut."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.text import printable

_UNWRAPPED = 10_000
"""Columns where nobody looks: whatever reads a pipe wants whole lines."""

Cell = str | Text


def console(*, stderr: bool = False) -> Console:
    """Give a console whose lines end where the text does; a terminal wraps them by itself."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNWRAPPED
    return Console(file=stream, width=width, soft_wrap=True, markup=False, emoji=False, highlight=False)


def table(*headings: str, rows: Iterable[tuple[Cell, ...]]) -> None:
    """Print a table on standard output; on a terminal, long cells take several lines."""
    made = Table(box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*row)
    console().print(made, soft_wrap=False)


def say(line: str) -> None:
    """Tell how far something is, on standard error; what a guest or a patch wrote may stand in it."""
    console(stderr=True).print(printable(line), soft_wrap=True, markup=False)
