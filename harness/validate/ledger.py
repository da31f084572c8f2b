# SPDX-License-Identifier: GPL-2.0-or-later
"""What a validation has found out so far, in SQLite: a run that was killed goes on where it was."""

from __future__ import annotations

import json
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from harness.errors import CouldNotRun

_SCHEMA = "create table if not exists done (kind text, key text, told text, primary key (kind, key))"


class Ledger:
    """Remembers JSON values by kind (`build`, `cell`) and key; what was noted is on the disk when `note` returns."""

    def __init__(self, path: Path) -> None:
        """Raises `CouldNotRun` for a file that is none, or cannot be written."""
        self._path = path
        try:
            with ExitStack() as stack:
                self._db = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
                self._db.execute("pragma journal_mode = wal")
                self._db.execute("pragma synchronous = full")
                self._db.execute(_SCHEMA)
                stack.pop_all()  # it stays open until this leaves its block
        except sqlite3.Error as error:
            raise CouldNotRun(f"{path}: {error}; --fresh begins anew") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def found(self, kind: str, key: str) -> Any | None:
        """Give what was noted; None where nothing was."""
        row = self._db.execute("select told from done where kind = ? and key = ?", (kind, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def note(self, kind: str, key: str, told: Any) -> None:
        """Note something that is done, in place of what was noted before. Raises `CouldNotRun`."""
        try:
            self._db.execute("insert or replace into done values (?, ?, ?)", (kind, key, json.dumps(told)))
        except sqlite3.Error as error:
            raise CouldNotRun(f"{self._path} cannot be written: {error}") from error
