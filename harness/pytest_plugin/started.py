# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are started for a test: its own, and those that the tests of a module share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from harness.errors import MachineLost
from harness.machine import record
from harness.machine.machine import Machine
from harness.machine.spec import Spec
from harness.outcome import Outcome
from harness.pytest_plugin.case import Case
from harness.pytest_plugin.options import RUN


def started(case: Case, stack: ExitStack, folder: Path, profile: str, parameters: Mapping[str, Any]) -> Machine:
    """Start a machine that the case is judged by, and that ends with `stack`. Raises what the case then deserves."""
    run = case.item.config.stash[RUN]
    found = run.store.library.get(profile)
    resolved = found.resolve(parameters)
    run.check(found)
    spec = Spec(found, resolved, run.parts, run.store.library.folders)
    try:
        made = run.starter.bring_up(stack, spec, folder, cold=case.cold, coming_up=case.boots)
    except MachineLost as lost:
        raise run.reference.judged(lost, spec, cold=case.cold) from None
    case.booting = None
    case.judge.machines.append(made)
    return made


@dataclass(frozen=True)
class Shared:
    """A machine, the case that used it last, and what ends it."""

    machine: Machine
    last: Case
    stack: ExitStack

    @property
    def is_clean(self) -> bool:
        """Whether it is as good as new: it said nothing, and the last test with it had nothing to tell."""
        console = self.machine.console
        spoiled = any(verdict.outcome not in (Outcome.PASS, Outcome.SKIP) for verdict in self.last.phases)
        return not (spoiled or self.machine.loss or console.reports() or console.dropped)

    def check(self) -> None:
        """Raise what it did wrong since the last test with it ended, for then nobody has told it; and end it."""
        complaint = self.last.judge.complaint()
        if complaint is not None:
            self.stack.close()
            complaint.add_note(f"on the machine that is shared, after {self.last.item.nodeid}")
            raise complaint


class Pool:
    """The machines that tests of one module share; one of which anything was to be told is not given again."""

    def __init__(self) -> None:
        self._machines: dict[tuple[str, str, bool], Shared] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as all_of_them:  # also where the end of one goes wrong
            for shared in self._machines.values():
                all_of_them.callback(shared.stack.close)
                all_of_them.callback(shared.check)

    def machine(self, case: Case, mark: pytest.Mark) -> Machine:
        """Give the machine of a mark to a case. Raises as `started`."""
        profile = str(mark.args[0])
        key = (profile, repr(sorted(mark.kwargs.items())), case.cold)
        if key in self._machines:
            known = self._machines.pop(key)
            known.check()
            if known.is_clean:
                self._machines[key] = Shared(known.machine, case, known.stack)
                case.judge.machines.append(known.machine)
                return known.machine
            known.stack.close()
        with ExitStack() as stack:
            module = case.item.nodeid.partition("::")[0]
            folder = record.folder_for(case.item.config.stash[RUN].directory, f"{module}-shared-{profile}")
            machine = started(case, stack, folder, profile, mark.kwargs)
            self._machines[key] = Shared(machine, case, stack.pop_all())
        return machine
