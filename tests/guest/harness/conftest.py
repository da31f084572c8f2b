# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the harness as a user does: as a command, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HARNESS = (sys.executable, "-c", "from harness.cli import main; main()")
_TIMEOUT = 900


@pytest.fixture(scope="session")
def harness_command() -> tuple[str, ...]:
    """The command line of `harness`, to add arguments to."""
    return HARNESS


@pytest.fixture(scope="session")
def harness_test() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `harness test` with some arguments in the folder `cwd`, to its end."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [*HARNESS, "test", *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT, check=False)

    return run
