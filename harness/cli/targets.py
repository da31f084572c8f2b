# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests `harness test` is asked for: files of the user's, or of the harness, whichever a name means."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.errors import UsageError

_ALL = Path("tests/guest")
_VALUED = frozenset({
    "-W", "-c", "-k", "-m", "-n", "-o", "-p", "-r", "--assert", "--basetemp", "--capture", "--code-highlight",
    "--color", "--confcutdir", "--config-file", "--deselect", "--dist", "--doctest-glob", "--doctest-report",
    "--durations", "--durations-min", "--ignore", "--ignore-glob", "--import-mode", "--junit-prefix", "--junit-xml",
    "--junitprefix", "--junitxml", "--last-failed-no-failures", "--lfnf", "--log-auto-indent", "--log-cli-date-format",
    "--log-cli-format", "--log-cli-level", "--log-date-format", "--log-disable", "--log-file", "--log-file-date-format",
    "--log-file-format", "--log-file-level", "--log-file-mode", "--log-format", "--log-level", "--max-warnings",
    "--max-worker-restart", "--maxfail", "--maxprocesses", "--maxschedchunk", "--numprocesses", "--override-ini",
    "--pastebin", "--pdbcls", "--profile", "--px", "--pythonwarnings", "--report-chars", "--rootdir", "--rsyncdir",
    "--rsyncignore", "--show-capture", "--tb", "--testrunuid", "--tx", "--verbosity",
})  # fmt: skip
"""The options of pytest and pytest-xdist that take the next word as their value."""


@dataclass(frozen=True)
class Targets:
    """pytest's arguments, with every test file as an absolute path, and the folder that node ids start from."""

    arguments: tuple[str, ...]
    rootdir: Path

    @property
    def pytest(self) -> list[str]:
        """The command that runs pytest on them, as the harness sets it up; its further options, then `arguments`."""
        command = [sys.executable, "-m", "pytest", "-c", str(paths.data_root() / "pyproject.toml")]
        return [*command, "--rootdir", str(self.rootdir), "-p", "no:cacheprovider"]

    @classmethod
    def of(cls, arguments: list[str]) -> Targets:
        """Resolve test files against the current folder first, then against the harness's own tests.

        The value of an option is left as it is. Raises `UsageError` for a word that is neither a file nor an option's.
        """
        resolved: list[str] = []
        files: list[Path] = []
        for before, word in zip(["", *arguments], arguments, strict=False):
            name, _, node = word.partition("::")
            found = None if word.startswith("-") or before in _VALUED else _found(name)
            if found is not None:
                files.append(found)
                resolved.append(f"{found}::{node}" if node else str(found))
                continue
            may_be_value = before.startswith("-") and "=" not in before
            if not word.startswith(("-", "@")) and not may_be_value and "--pyargs" not in arguments:
                raise UsageError(f"{word}: no such test file or folder, here or among the harness's own tests")
            resolved.append(word)
        if not files:
            files = [paths.data_root() / _ALL]
            resolved.append(str(files[0]))
        return cls(tuple(resolved), _rootdir(files))


def _found(name: str) -> Path | None:
    """Give the file that a name means; None for what is none."""
    for path in (Path(name), paths.data_root() / name):
        try:
            if path.exists():
                return path.absolute()
        except OSError:  # a name that is too long, say, because it is none
            return None
    return None


def _rootdir(files: list[Path]) -> Path:
    """Root the harness's own tests in its data, so that their ids are the same everywhere; others where they are."""
    if all(file.is_relative_to(paths.data_root()) for file in files):
        return paths.data_root()
    folders = [file if file.is_dir() else file.parent for file in files]
    return Path(os.path.commonpath([Path.cwd(), *folders]))
