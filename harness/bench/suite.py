# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the SR-IOV suite takes with clones and with cold boots, and whether it says the same both ways."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import CouldNotRun

_SUITE = "tests/guest/sriov"
_COMMAND = "import harness.cli; harness.cli.main()"


@dataclass(frozen=True)
class Run:
    """One run of the suite: its seconds, and the outcome of each test."""

    seconds: float
    outcomes: dict[str, str]


def run(flags: Sequence[str], *, cold: bool) -> Run:
    """Run the suite as `harness test -n auto` does; raises `CouldNotRun` where that ends without verdicts."""
    command = [sys.executable, "-c", _COMMAND, "test", _SUITE, "-n", "auto", "--json", *flags]
    started = time.monotonic()
    done = subprocess.run([*command, *(["--cold"] if cold else [])], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    try:
        tests = json.loads(done.stdout)["tests"]
    except ValueError as error:
        raise CouldNotRun(f"the suite ended with {done.returncode}: {done.stderr.strip()[-500:]}") from error
    return Run(seconds, {test["test"]: test["outcome"] for test in tests})
