# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling the user what is being fetched or built, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

Advance = Callable[[float], None]
"""Sets how far a task has come: a fraction from 0 to 1."""
Steps = Callable[[int], None]
"""Told how many steps have been done so far."""


class Progress:
    """Says nothing: for tests and for workers that have no terminal. Also the interface of the talkative ones."""

    @contextmanager
    def task(self, text: str) -> Iterator[Advance]:
        """Show `text` while the block runs; the block may call what it is given with its fraction done."""
        del text
        yield lambda _: None

    def note(self, text: str) -> None:
        """Say one line."""


class TerminalProgress(Progress):
    """A bar for each task on a terminal; elsewhere (a CI log) a line when it starts and one when it ends."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def note(self, text: str) -> None:
        """Say one line."""
        self._console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def task(self, text: str) -> Iterator[Advance]:
        """Show `text` with a bar and the time it takes."""
        if not self._console.is_terminal:
            with self._lines(text) as advance:
                yield advance
            return
        text_column = TextColumn("{task.description}", markup=False)
        columns = (text_column, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with RichProgress(*columns, console=self._console) as bars:
            bar = bars.add_task(text, total=None)

            def advance(fraction: float) -> None:
                bars.update(bar, total=1.0, completed=fraction)

            yield advance
            bars.update(bar, total=1.0, completed=1.0)

    @contextmanager
    def _lines(self, text: str) -> Iterator[Advance]:
        start = time.monotonic()
        self.note(f"{text} ...")
        yield lambda _: None
        self.note(f"{text}: done in {time.monotonic() - start:.1f} s")


def told(note: Callable[[str], None], advance: Callable[[float], None], expected: int, every: float = 60.0) -> Steps:
    """Give what tells of the steps: a fraction where their number is known from before, and a line every minute."""
    started = last = time.monotonic()

    def steps(done: int) -> None:
        nonlocal last
        if expected:
            advance(min(1.0, done / expected))
        now = time.monotonic()
        if now - last >= every:
            last = now
            of = f" of about {expected}" if expected >= done else ""
            note(f"  {done}{of} files made after {(now - started) / 60:.0f} min")

    return steps
