# SPDX-License-Identifier: GPL-2.0-or-later
"""The cells of a validation, each run once: what was run before, the ledger knows, and its folder holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.outcome import OUTCOME_FILE, Exit, Outcome, Verdict
from harness.provision.cache import Cache
from harness.report.run import Result, Run
from harness.text import count
from harness.validate import cells, cluster
from harness.validate.builds import Builds
from harness.validate.cells import Cell, Ran
from harness.validate.ledger import Ledger
from harness.validate.order import Order, Target
from harness.validate.steps import Step

if TYPE_CHECKING:
    from distributed import Client

BOOT = "tests/guest/harness/test_guest_clock.py"
"""Tests of the smallest machine: a kernel that fails there as a machine, not as a test, does not boot."""
_KIND = "cell"


class Grid:
    """Runs cells on a cluster, and gives what the tests in them said."""

    def __init__(
        self, client: Client, cache: Cache, order: Order, builds: Builds, ledger: Ledger, state: Path,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._client, self._cache, self._order, self._builds = client, cache, order, builds
        self._ledger, self._state, self._tell = ledger, state, tell
        self.troubles: dict[Cell, str] = {}
        """Why cells have no result."""

    def cell(self, step: Step, target: Target, *tests: str, turn: int = 0) -> Cell:
        """Give the cell of some tests on a step's kernel."""
        built = self._builds.of(step, target)
        options = () if tests == (BOOT,) else self._order.selection
        return Cell(built.kernel, built.content, tests, (*self._order.options, *options), turn)

    def run(self, wanted: Iterable[Cell], what: str) -> None:
        """Run those cells that are not done, as `what`."""
        distinct = {one.key: one for one in wanted}
        left = [one for one in distinct.values() if not self._is_done(one)]
        if not left:
            return
        self._tell(f"{what}: {count(len(left), 'cell')}, {cluster.room(self._client)} at once")
        started = time.monotonic()
        for done, (cell, told) in enumerate(cluster.run_all(self._client, left, self._pack), 1):
            minutes = (time.monotonic() - started) / done * (len(left) - done) / 60
            self._tell(f"{what}: {done} of {len(left)}, about {minutes:.0f} min left: {self._noted(cell, told)}")

    def verdicts(self, wanted: Iterable[Cell]) -> dict[str, Verdict]:
        """Give what the tests of cells said, by their ids."""
        return {test: one.verdict for test, one in self.results(wanted).items()}

    def results(self, wanted: Iterable[Cell]) -> dict[str, Result]:
        """Give that with the folders of their records."""
        folders = [folder for one in wanted if any((folder := self.folder(one)).glob(f"*/{OUTCOME_FILE}"))]
        return {one.verdict.test: one for folder in folders for one in Run.load(folder).results}

    def folder(self, cell: Cell) -> Path:
        """Give the folder with the records of a cell that is done."""
        return self._state / "cells" / cell.key

    def _is_done(self, cell: Cell) -> bool:
        return self._ledger.found(_KIND, cell.key) is not None and self.folder(cell).is_dir()

    @property
    def _pack(self) -> Callable[[str], bytes] | None:
        if self._order.scheduler is None:
            return None
        return lambda name: cells.packed_kernel(self._cache, name)

    def _noted(self, cell: Cell, told: Ran | Exception) -> str:
        """Keep what became of a cell, and say it."""
        name = f"{_names(cell.tests)} on {cell.kernel}"
        if not isinstance(told, Ran):
            self.troubles[cell] = str(told)
            return f"{name}: {told}"
        cells.keep(told, self.folder(cell))
        outcomes = {one.outcome for one in self.verdicts([cell]).values()}
        if told.code != Exit.EMPTY and (not outcomes or (told.code == Exit.ERROR and Outcome.ERROR not in outcomes)):
            self.troubles[cell] = f"`harness test` ended with {told.code}, and no test says why"
            return f"{name}: {self.troubles[cell]}"
        self.troubles.pop(cell, None)
        self._ledger.note(_KIND, cell.key, {"code": told.code, "seconds": told.seconds})
        return f"{name}: {told.seconds:.0f} s"


def _names(tests: Sequence[str]) -> str:
    return tests[0] if len(tests) == 1 else f"{len(tests)} tests"
