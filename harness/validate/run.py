# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of `harness test` as a process of its own, and what it said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.errors import CouldNotRun
from harness.outcome import Exit, Outcome, Verdict

_HARNESS = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"
_VERDICTS = TypeAdapter(list[Verdict])
_TOLD = 2000
"""Characters of a run's last words that an error repeats."""


@dataclass(frozen=True)
class TestRun:
    """What the tests of one run said, in the order in which they began."""

    __test__ = False  # pytest would collect it by its name

    folder: Path
    verdicts: Sequence[Verdict]

    def first(self, outcome: Outcome) -> Verdict | None:
        """Give the first test that ended so."""
        return next((one for one in self.verdicts if one.outcome is outcome), None)


def command(kernel: str, tests: Sequence[str], *options: str) -> list[str]:
    """Give the command that runs tests on a kernel, with more options of `harness test`."""
    return [sys.executable, "-c", _HARNESS, "test", *tests, "--kernel", kernel, *options]


def run_tests(
    kernel: str, tests: Sequence[str], *options: str, workers: int = 1, first_failure: bool = False
) -> TestRun:
    """Run tests on a kernel; with `first_failure` until one fails. Raises `CouldNotRun` where there is no result."""
    more = ["-n", str(workers)] if workers > 1 else []
    more += ["-x"] if first_failure else []
    done = subprocess.run(
        command(kernel, tests, *options, *more, "--json"), capture_output=True, text=True, check=False
    )
    if done.returncode == Exit.INTERRUPTED:
        raise KeyboardInterrupt
    try:
        said = json.loads(done.stdout)
        verdicts = _VERDICTS.validate_python(said["tests"])
        return TestRun(Path(said["run"]), sorted(verdicts, key=lambda one: one.started))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise CouldNotRun(
            f"`harness test` on kernel {kernel} ended with {done.returncode}, and without a result",
            detail=done.stderr[-_TOLD:],
        ) from error
