# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose kernel may have misjudged its timer, on a busy host, is not told as lost: it is booted again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from harness.errors import CouldNotRun, MachineLost
from harness.machine import record
from harness.machine.machine import Machine
from harness.machine.spec import Spec

_log = logging.getLogger(__name__)

_ATTEMPTS = 8
"""Beside three busy loops for each CPU of the host, one boot in five had to be repeated."""
_RECORDS = ("argv", "console.log", "qmp.jsonl", "ssh.log", "device-*.jsonl")
"""What a machine writes until it is lost."""


def brought_up(stack: ExitStack, spec: Spec, directory: Path, bring_up: Callable[[Machine], None]) -> Machine:
    """Make a machine that ends with the stack, and have `bring_up` start it; raises what `bring_up` does.

    `bring_up` gets another machine where the kernel of the one before may have misjudged its timer
    (`harness.machine.health.mistiming`) and complained of nothing else. The records of that one are kept, as
    1-console.log and so on. Raises `CouldNotRun` where no machine does better.
    """
    for number in range(1, _ATTEMPTS + 1):
        machine = Machine(spec, directory)
        machine.boots = number
        stack.callback(machine.close)
        try:
            bring_up(machine)
        except MachineLost as lost:
            if machine.loss != machine.health.mistimed or lost.complained:  # it was something else, or that besides
                raise
            _log.warning("boot %d of at most %d came to nothing: %s", number, _ATTEMPTS, lost)
            last = lost
        else:
            return machine
        machine.close()
        _set_aside(directory, number)
    raise CouldNotRun(f"{last}, {_ATTEMPTS} times: this host is too busy", stage=last.stage, detail=last.detail)


def _set_aside(directory: Path, number: int) -> None:
    with record.told(directory):
        for path in [path for pattern in _RECORDS for path in directory.glob(pattern)]:
            path.replace(path.with_name(f"{number}-{path.name}"))
