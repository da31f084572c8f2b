# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of unpacked Debian packages whose programs run on any x86-64 Linux, through the tree's own dynamic loader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOADER = "usr/lib64/ld-linux-x86-64.so.2"
"""What starts a program of the tree."""
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd")


@dataclass(frozen=True)
class Prefix:
    """The root of such a tree."""

    root: Path

    def argv(self, program: str, *, name: str | None = None) -> list[str]:
        """Give the start of a command line that runs `program` (a path below the root), calling itself `name`."""
        libraries = ":".join(str(self.root / folder) for folder in _LIBRARIES)
        called = name or Path(program).name
        loader = str(self.root / LOADER)
        return [loader, "--argv0", called, "--library-path", libraries, str(self.root / program)]
