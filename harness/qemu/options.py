# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line as a list of options, parsed from a rendered template."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import UsageError


@dataclass(frozen=True)
class Option:
    """One option with its argument, which QEMU gets as one word, so that nothing ever needs quoting."""

    name: str
    argument: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The one or two words that it takes on a command line."""
        return (self.name,) if self.argument is None else (self.name, self.argument)


def parse(rendered: str, origin: str) -> tuple[Option, ...]:
    """Read one option per line: a name, then everything behind the first blank as its argument.

    `origin` names the template in the `UsageError` that a line which is no option raises.
    """
    options = []
    for line in (raw.strip() for raw in rendered.splitlines()):
        if not line:
            continue
        if not line.startswith("-"):
            raise UsageError(f"template {origin}: a line must be one QEMU option (-NAME ARGUMENT), not {line!r}")
        options.append(Option(*line.split(maxsplit=1)))
    return tuple(options)


def argv(options: Iterable[Option]) -> list[str]:
    """Give the options as words for a command line."""
    return [word for option in options for word in option.words]


def shell(program: str, options: Iterable[Option]) -> str:
    """Give a command line to paste into a shell, one option per line."""
    lines = [shlex.quote(program), *(shlex.join(option.words) for option in options)]
    return " \\\n  ".join(lines)
