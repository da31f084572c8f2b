# SPDX-License-Identifier: GPL-2.0-or-later
"""Validating a series: every step is built, tested, and compared with the step before it.

What is done is noted in a ledger before anything else is begun: the same validation, asked for again after whatever cut
it off, repeats at most the builds and cells that were under way.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.machine.parts import Store
from harness.outcome import Outcome
from harness.report.run import STEPS, Result
from harness.report.validation import LEDGER, Changed, StepResult, Validation, folder_name
from harness.text import decoded
from harness.validate import changes, cluster
from harness.validate.builds import Builds
from harness.validate.cells import Cell
from harness.validate.changes import Change, Kind
from harness.validate.grid import BOOT, Grid
from harness.validate.ledger import Ledger
from harness.validate.order import Order, Target
from harness.validate.steps import Step

_STAMP = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[CT]\d+\])? ")
_VARIES = re.compile(r"0x[0-9a-f]+|\d+")
_READ = 1 << 20
"""Bytes of one console that are compared."""
_UNTOLD = (Outcome.MISS, Outcome.ERROR)
_KINDS = list(Kind)


def validate(store: Store, order: Order, state: Path, tell: Callable[[str], None]) -> Validation:
    """Validate a series; raises `HarnessError` where that cannot go on. `state` is where it goes on another time."""
    started = time.monotonic()
    with Ledger(state / LEDGER) as ledger:
        builds = Builds(store, order, ledger, tell)
        with cluster.joined(order.scheduler, order.guests) as client:  # before hours of building: it may not be there
            builds.make()
            campaign = _Campaign(order, builds, Grid(client, store.cache, order, builds, ledger, state, tell))
            campaign.run()
            seconds = time.monotonic() - started + float(ledger.found("time", "spent") or 0)
            ledger.note("time", "spent", seconds)
        campaign.lay_out(state)
        result = Validation(
            series=order.title, source=order.source, note=order.series.note, tests=list(order.tests), seconds=seconds,
            steps=campaign.results(),
        )  # fmt: skip
    result.save(state)
    return result


@dataclass
class _Compared:
    """What a step has changed, and what that is held against."""

    step: Step
    target: Target
    references: Mapping[str, Step]
    """The step that each test is held against."""
    changes: list[Change]
    inherits: dict[str, Change]
    """The change of that step, of tests that changed there, too: they are asked about there."""

    def asks_before(self, change: Change, turn: int) -> bool:
        """Tell whether the kernel before is to be asked about a test for this step's sake."""
        inherited = self.inherits.get(change.test)
        return change.asks_before(turn) and not (inherited is not None and inherited.asks_after(turn))

    def inherit(self) -> None:
        """Take over what the kernels before said when they were asked for their own sake."""
        for one in self.changes:
            if one.test in self.inherits:
                one.before |= self.inherits[one.test].after


class _Campaign:
    """What the steps are asked, and what their answers mean."""

    def __init__(self, order: Order, builds: Builds, grid: Grid) -> None:
        self._order, self._builds, self._grid = order, builds, grid
        self._dead: dict[tuple[int, str], str] = {}
        self._said: dict[tuple[int, str], dict[str, Result]] = {}
        self._changes: dict[tuple[int, str], dict[str, Change]] = {}
        self._new_lines: dict[tuple[int, str], list[str]] = {}

    def run(self) -> None:
        """Boot each kernel, have those that boot run the tests, and ask again what a patch has changed."""
        self._grid.run((self._grid.cell(*one, BOOT) for one in self._builds.bootable()), "boots")
        for step, target in self._builds.bootable():
            self._dead[step.number, target.name] = self._why_dead(step, target)
        booting = self._booting()
        self._grid.run((self._grid.cell(*one, test) for one in booting for test in self._order.tests), "tests")
        compared = [(earlier, *one) for one in booting if (earlier := self._earlier(*one))]
        self._ask_again([self._compared(*one) for one in compared])
        self._compare_consoles([(earlier[-1], step, target) for earlier, step, target in compared])

    def results(self) -> list[StepResult]:
        """Give the verdict on every step; a test that a step begins to fail, and a later one makes pass, says which."""
        found = [self._result(step) for step in self._order.series.steps]
        mended: dict[tuple[str, str], str] = {}
        for result in reversed(found):
            for one in result.changes:
                if one.kind == Kind.UNMET:
                    one.until = mended.get((one.test, one.config), "")
                elif one.kind == Kind.FIXED:
                    mended[one.test, one.config] = result.title
        return found

    def _result(self, step: Step) -> StepResult:
        booting = [target for one, target in self._booting() if one is step]
        verdicts = [one.verdict for target in booting for one in self._tested(step, target).values()]
        counts = Counter(one.outcome for one in verdicts)
        changed = [
            self._told(one, step, target)
            for target in booting
            for one in self._changes.get((step.number, target.name), {}).values()
        ]
        untold = [f"{one.test}: {one.outcome}: {one.reason}" for one in verdicts if one.outcome in _UNTOLD]
        kernels = {self._builds.of(step, target).kernel: target.name for target in self._order.targets}
        untold += [
            f"{cell.tests[0]} ({kernels[cell.kernel]}): {trouble}"
            for cell, trouble in self._grid.troubles.items()
            if cell.kernel in kernels
        ]
        dead = ((name, why) for (number, name), why in self._dead.items() if number == step.number and why)
        boot_config, boot = next(dead, ("", ""))
        return StepResult(
            number=step.number, title=step.title,
            builds=[self._builds.of(step, target) for target in self._order.targets],
            unseen=self._builds.unseen(step),
            boot=boot, boot_config=boot_config,
            console=sorted({line for one in booting for line in self._new_lines.get((step.number, one.name), ())}),
            changes=sorted(changed, key=lambda one: (_KINDS.index(Kind(one.kind)), one.test)),
            counts={str(outcome): counts[outcome] for outcome in Outcome if counts[outcome]},
            untold=list(dict.fromkeys(untold)),
        )  # fmt: skip

    def lay_out(self, state: Path) -> None:
        """Make a folder for each step that reads as one run: links to what its cells left."""
        top = state / STEPS
        shutil.rmtree(top, ignore_errors=True)
        for step, target in self._builds.bootable():
            folder = top / folder_name(step.number, target.name)
            folder.mkdir(parents=True)
            several = len([one for one in self._order.targets if one.boots]) > 1
            (folder / "title").write_text(f"{step.title}{f' ({target.name})' if several else ''}\n", encoding="utf-8")
            for cell in self._cells(step, target):
                for record in self._grid.folder(cell).glob("*"):
                    if record.is_dir() and not (folder / record.name).exists():
                        (folder / record.name).symlink_to(record.resolve())

    def _why_dead(self, step: Step, target: Target) -> str:
        """Give why a kernel does not boot, twice; nothing for one that does, or of which nothing is known."""
        why = ""
        for turn in (0, 1):
            cell = self._grid.cell(step, target, BOOT, turn=turn)
            self._grid.run([cell], f"{step.title}: does not boot, asked again")
            said = list(self._grid.verdicts([cell]).values())
            lost = [one for one in said if one.stage and one.outcome is Outcome.FAIL]  # a MISS is no kernel's fault
            if not lost or any(one.outcome is Outcome.PASS for one in said):
                return ""
            why = lost[0].reason
        return why

    def _booting(self) -> list[tuple[Step, Target]]:
        return [(step, target) for step, target in self._builds.bootable() if not self._dead[step.number, target.name]]

    def _earlier(self, step: Step, target: Target) -> list[Step]:
        """Give what a step can be held against: those before it that boot, in their order."""
        return [one for one, its in self._booting() if its is target and one.number < step.number]

    def _tested(self, step: Step, target: Target) -> dict[str, Result]:
        key = (step.number, target.name)
        if key not in self._said:
            self._said[key] = self._grid.results(self._cells(step, target))
        return self._said[key]

    def _cells(self, step: Step, target: Target) -> Iterator[Cell]:
        return (self._grid.cell(step, target, test) for test in (BOOT, *self._order.tests))

    def _compared(self, earlier: Sequence[Step], step: Step, target: Target) -> _Compared:
        """Note what a step has changed."""
        references = self._references(earlier, step, target)
        found = changes.changed(
            {test: self._tested(one, target)[test].verdict for test, one in references.items()},
            {test: one.verdict for test, one in self._tested(step, target).items()},
        )
        self._changes[step.number, target.name] = {one.test: one for one in found}
        inherits: dict[str, Change] = {}
        for one in found:
            then = self._changes.get((references[one.test].number, target.name), {})
            if one.test in then:
                inherits[one.test] = then[one.test]
        return _Compared(step, target, references, found, inherits)

    def _ask_again(self, compared: Sequence[_Compared]) -> None:
        """Ask again about all that has changed, on all kernels at once; then about what the one before was lost on."""
        turns = range(1, changes.TURNS + 1)
        count = sum(len(one.changes) for one in compared)
        asked = [(one, turn, *self._asked(one, turn)) for one in compared for turn in turns]
        self._grid.run(
            (cell for _, _, then, now in asked for cell in (*then, *now)),
            f"{count} changed, asked {changes.TURNS} times more",
        )
        for one, turn, then, now in asked:
            changes.add(one.changes, turn, self._grid.verdicts(then), self._grid.verdicts(now))
        for one in compared:
            one.inherit()
            one.inherits.clear()
            left = [(turn, self._asked(one, turn)[0]) for turn in turns]
            self._grid.run((cell for _, then in left for cell in then), f"{one.step.title}: asked again")
            for turn, then in left:
                changes.add(one.changes, turn, self._grid.verdicts(then), {})

    def _asked(self, one: _Compared, turn: int) -> tuple[list[Cell], list[Cell]]:
        """Give the cells that a turn asks for a step's sake: on kernels before it, and on its own."""
        then: list[Cell] = []
        for reference in {*one.references.values()}:
            its = [each for each in one.changes if one.references[each.test] is reference]
            tests = [each.test for each in its if one.asks_before(each, turn)]
            then += self._asked_again(tests, reference, one.target, turn)
        tests = [each.test for each in one.changes if each.asks_after(turn)]
        return then, self._asked_again(tests, one.step, one.target, turn)

    def _references(self, earlier: Sequence[Step], step: Step, target: Target) -> dict[str, Step]:
        """Give what each test is held against: the step before, or where it could not run there, when it last could."""
        now, last = self._tested(step, target), self._tested(earlier[-1], target)
        found: dict[str, Step] = {}
        for one in earlier:
            for test, then in self._tested(one, target).items():
                runs_now = test in now and now[test].verdict.outcome is not Outcome.SKIP
                if then.verdict.outcome is not Outcome.SKIP or test not in found or not runs_now:
                    found[test] = one
        return {test: one for test, one in found.items() if test in last}

    def _asked_again(self, tests: Iterable[str], step: Step, target: Target, turn: int) -> list[Cell]:
        by_file: dict[str, list[str]] = {}
        for test in tests:
            file, _, node = test.partition("::")
            by_file.setdefault(self._given(file), []).append(node)
        groups = ([f"{file}::{node}" for node in nodes] for file, nodes in by_file.items())
        return [self._grid.cell(step, target, *group, turn=turn) for group in groups]

    def _told(self, one: Change, step: Step, target: Target) -> Changed:
        now = self._tested(step, target).get(one.test)
        record = f"{STEPS}/{folder_name(step.number, target.name)}/{now.folder.name}" if now is not None else ""
        return Changed(
            test=one.test, config=target.name, kind=one.kind, reason=one.reason, rates=one.rates, record=record,
            before=[str(one.before[turn]) for turn in sorted(one.before)],
            after=[str(one.after[turn]) for turn in sorted(one.after)],
        )  # fmt: skip

    def _given(self, file: str) -> str:
        """Give a test's file as it was asked for: pytest's ids of the user's own begin at their common folder."""
        if file in (BOOT, *self._order.tests):
            return file
        return next((one for one in self._order.tests if Path(one).name == Path(file).name), file)

    def _compare_consoles(self, compared: Sequence[tuple[Step, Step, Target]]) -> None:
        """Note what each kernel says whenever it boots, and the one before it never does."""
        new: list[dict[str, str]] = []
        for before, step, target in compared:
            known = self._console(before, target)
            new.append({key: line for key, line in self._console(step, target).items() if key not in known})
        for turn in range(1, changes.TURNS + 1):
            talking = [(number, *one) for number, one in enumerate(compared) if new[number]]
            pairs = [(one, target) for _, before, step, target in talking for one in (before, step)]
            asked = [self._grid.cell(*one, BOOT, turn=turn) for one in pairs]
            self._grid.run(asked, f"kernels that say more: {len(talking)}, booted again ({turn} of {changes.TURNS})")
            for number, before, step, target in talking:
                then, now = (self._console(one, target, turn) for one in (before, step))
                still = now or new[number]  # or it did not boot now, which is told elsewhere
                new[number] = {key: line for key, line in new[number].items() if key in still and key not in then}
        for lines, (_, step, target) in zip(new, compared, strict=True):
            self._new_lines[step.number, target.name] = sorted(lines.values())

    def _console(self, step: Step, target: Target, turn: int = 0) -> dict[str, str]:
        """Give the lines of a kernel's cold boot, by what does not vary in them."""
        found: dict[str, str] = {}
        for path in self._grid.folder(self._grid.cell(step, target, BOOT, turn=turn)).glob("*-cold/console.log"):
            with path.open("rb") as stream:
                lines = decoded(stream.read(_READ)).splitlines()
            said = [_STAMP.sub("", line) for line in lines if _STAMP.match(line)]
            found |= {_VARIES.sub("N", line): line for line in said if not line.startswith("iov-harness:")}
        return found
