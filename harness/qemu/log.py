# SPDX-License-Identifier: GPL-2.0-or-later
"""A file of a run's record, for writers that must go on when the disk is full."""

from __future__ import annotations

from pathlib import Path


class Log:
    """A file to append to. Its methods never raise `OSError`: `broken` keeps the first one, and ends the file there."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self.broken: OSError | None = None

    def write(self, data: bytes) -> None:
        """Append all of `data`; does nothing once the file is closed or broken."""
        if self._file.closed or self.broken is not None:
            return
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self.broken = error

    def close(self) -> None:
        """Close the file; may be called again."""
        try:
            self._file.close()
        except OSError as error:
            self.broken = self.broken or error
