# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose kernel misjudged its timer on a busy host is not told as lost: it is booted again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from harness.errors import MachineLost
from harness.machine import record
from harness.machine.machine import Machine
from harness.machine.spec import Spec

_log = logging.getLogger(__name__)

_RECORDS = ("argv", "console.log", "qmp.jsonl")

_ATTEMPTS = 5
"""The last is taken as it comes. Beside three busy loops for each CPU of the host, every fourth had to be repeated."""


def brought_up(stack: ExitStack, spec: Spec, directory: Path, bring_up: Callable[[Machine], None]) -> Machine:
    """Make a machine that ends with the stack, and have `bring_up` start it; raises what `bring_up` does.

    `bring_up` gets another machine where the kernel of the one before misjudged its timer
    (`harness.machine.health.mistiming`). The records of that one are kept, as 1-console.log and so on.
    """
    for number in range(1, _ATTEMPTS):
        machine = Machine(spec, directory, particular=True)
        stack.callback(machine.close)
        try:
            bring_up(machine)
        except MachineLost as lost:
            if not machine.health.mistimed:
                raise
            _log.warning("%s; booted again", lost)
        else:
            return machine
        machine.close()
        with record.told(directory):
            for name in _RECORDS:
                (directory / name).replace(directory / f"{number}-{name}")
    machine = Machine(spec, directory)
    stack.callback(machine.close)
    bring_up(machine)
    return machine
