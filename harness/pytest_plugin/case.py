# SPDX-License-Identifier: GPL-2.0-or-later
"""What the plugin knows of one test that is running: its folder, its machines, its time, its phases."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.judge import Judge
from harness.machine import evidence, record
from harness.machine.machine import Machine
from harness.outcome import SOURCE_FOLDER, Verdict
from harness.pytest_plugin import sources
from harness.pytest_plugin.marks import KnownBug, declared, seconds
from harness.pytest_plugin.options import RUN

_log = logging.getLogger(__name__)


class Case:
    """One test case, from its setup to its teardown."""

    def __init__(self, item: pytest.Item) -> None:
        run = item.config.stash[RUN]
        mark = item.get_closest_marker("test_timeout")
        self.item = item
        self.judge = Judge([declared(one) for one in item.iter_markers("expects_report")])
        self.booting: Machine | None = None
        self.fetching = ""
        self.deadline = Deadline(seconds(mark) if mark else run.test_timeout, "the test")
        self.phases: list[Verdict] = []
        self.besides: BaseException | None = None
        self._folder: Path | None = None
        self._kept = False

    @classmethod
    def of(cls, item: pytest.Item) -> Case:
        """Give the case of a test, made when first asked for."""
        if _CASE not in item.stash:
            item.stash[_CASE] = cls(item)
        return item.stash[_CASE]

    @property
    def machines(self) -> list[Machine]:
        """The machines that the test has used, and the one that is, or was never, coming up."""
        return [*self.judge.machines, *([self.booting] if self.booting else [])]

    @property
    def cold(self) -> bool:
        """Whether its machines are to be booted, not cloned."""
        return self.item.get_closest_marker("cold") is not None

    def boots(self, machine: Machine) -> None:
        """Note the machine that is coming up."""
        self.booting = machine

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Hold the time of the block against nobody: the machine waits for `what` to be fetched or built."""
        self.fetching = what
        try:
            yield
        finally:
            self.fetching = ""

    @property
    def folder(self) -> Path:
        """The test's folder in the run record, made when first asked for."""
        if self._folder is None:
            self._folder = record.folder_for(self.item.config.stash[RUN].directory, self.item.nodeid)
        return self._folder

    def new_folder(self) -> Path:
        """Give the folder of a machine: the test's own for the first, and one below it for each that follows."""
        count = len(self.machines)
        return record.folder_for(self.folder, f"machine-{count + 1}") if count else self.folder

    def keep_evidence(self) -> None:
        """Keep what the first thing that went wrong left: the test's source, and what its machines are like now."""
        if self._kept:
            return
        self._kept = True
        try:
            sources.keep(self.item.path, self.item.config.rootpath, self.folder / SOURCE_FOLDER)
            for machine in self.machines:
                own = machine.directory.is_relative_to(self.folder)
                evidence.gather(machine, machine.directory if own else self.folder)
        except Exception:  # noqa: BLE001 - whatever it is, the verdict counts, and the tests after this one
            _log.warning("%s: the evidence is not whole", self.item.nodeid, exc_info=True)

    def about_machine(self) -> dict[str, Any]:
        """Give what the record says of the test's first machine, and where in the run's folder its logs are."""
        if not self.machines:
            return {}
        machine = self.machines[0]
        run = self.item.config.stash[RUN].directory
        return {**machine.about(), "folder": os.path.relpath(machine.directory, run)}

    def check(self) -> None:
        """Raise what the test's machines did wrong and nobody has told yet."""
        complaint = self.judge.complaint()
        if complaint is not None:
            raise complaint

    def known_bugs(self) -> list[KnownBug]:
        """Give the `known_bug` marks that hold on a kernel of this test's machines."""
        kernels = [machine.spec.parts.kernel for machine in self.machines]
        names = {name for kernel in kernels for name in (kernel.name, kernel.release)}
        return [bug for bug in map(KnownBug.of, self.item.iter_markers("known_bug")) if bug.holds_on(names)]


_CASE = pytest.StashKey[Case]()
