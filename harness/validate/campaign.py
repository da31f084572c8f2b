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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.machine.parts import Store
from harness.outcome import Outcome, Verdict
from harness.provision.kbuild import build as building
from harness.provision.kbuild.arch import Arch
from harness.provision.kbuild.make import DoesNotBuild
from harness.report.run import Run
from harness.report.validation import Built, Changed, StepResult, Validation
from harness.text import decoded
from harness.validate import cells, changes, cluster
from harness.validate.cells import Cell, Ran
from harness.validate.changes import Change, Kind
from harness.validate.ledger import Ledger
from harness.validate.steps import Series, Step

if TYPE_CHECKING:
    from distributed import Client

BOOT = "tests/guest/harness/test_guest_clock.py"
"""Tests of the smallest machine: a kernel that fails there as a machine, not as a test, does not boot."""
_STAMP = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[CT]\d+\])? ")
_VARIES = re.compile(r"0x[0-9a-f]+|\d+")
_UNTOLD = (Outcome.MISS, Outcome.ERROR)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """A configuration that every step is built in: fragments beyond the base, or another architecture, or both."""

    fragments: tuple[str, ...] = ()
    arch: Arch | None = None
    boots: bool = True

    @property
    def name(self) -> str:
        """What it is called in reports: `base`, `siov+debug`, `powerpc`."""
        return (
            "+".join([*([self.arch.name] if self.arch else []), *(Path(one).stem for one in self.fragments)]) or "base"
        )


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    series: Series
    title: str
    source: str
    targets: Sequence[Target]
    tests: Sequence[str]
    options: tuple[str, ...] = ()
    guests: int = 1
    scheduler: str | None = None
    jobs: int = 0


@dataclass
class _Campaign:
    store: Store
    order: Order
    state: Path
    ledger: Ledger
    tell: Tell
    built: dict[tuple[int, str], Built] = field(default_factory=dict)
    unseen: dict[int, list[str]] = field(default_factory=dict)
    boots: dict[tuple[int, str], str] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)


def validate(store: Store, order: Order, state: Path, tell: Tell) -> Validation:
    """Validate a series; raises `HarnessError` where that cannot go on. `state` is where it goes on another time."""
    started = time.monotonic()
    with Ledger(state / "ledger.sqlite") as ledger:
        campaign = _Campaign(store, order, state, ledger, tell)
        _build_all(campaign)
        with cluster.joined(order.scheduler, order.guests) as client:

            def run(wanted: Sequence[Cell], what: str) -> None:
                _run_cells(campaign, client, wanted, what)

            run([_cell(campaign, step, target, BOOT) for step, target in _bootable(campaign)], "boots")
            _judge_boots(campaign)
            run(
                [_cell(campaign, step, target, test) for step, target in _booting(campaign) for test in order.tests],
                "tests",
            )
            found = {target.name: _changes(campaign, target, run) for target in order.targets if target.boots}
        seconds = time.monotonic() - started + float(ledger.found("time", "spent") or 0)
        ledger.note("time", "spent", seconds)
    _lay_out_steps(campaign)
    result = Validation(
        series=order.title, source=order.source, note=order.series.note, tests=list(order.tests), seconds=seconds,
        steps=[_step(campaign, step, found) for step in order.series.steps],
    )  # fmt: skip
    result.save(state)
    return result


# Building


def _build_all(campaign: _Campaign) -> None:
    for target in campaign.order.targets:
        before: list[str] | None = None
        for step in campaign.order.series.steps:
            warnings = _build(campaign, step, target, before)
            before = warnings if warnings is not None else before
    for step in campaign.order.series.steps:
        told = [campaign.ledger.found("build", _build_key(campaign, step, one)) for one in campaign.order.targets]
        seen_by = [{*one["unseen"]} for one in told if one is not None and one["unseen"] is not None]
        left = {*step.files} & set.intersection(*seen_by) if seen_by else set()
        campaign.unseen[step.number] = sorted(left)


def _build(campaign: _Campaign, step: Step, target: Target, before: list[str] | None) -> list[str] | None:
    """Build a step, or find it built; gives all its warnings, None where it does not build."""
    key = _build_key(campaign, step, target)
    name = f"v-{key}"
    known = campaign.ledger.found("build", key)
    entry = building.found(campaign.store.cache, name)
    there = entry is not None and known is not None and entry.about["content"] == known["content"]
    if known is None or not (known["error"] or there or not target.boots):
        known = _built(campaign, step, target, name)
        campaign.ledger.note("build", key, known)
    all_warnings = None if known["error"] else list(known["warnings"])
    new = sorted({*(all_warnings or [])} - {*before}) if before is not None else []
    campaign.built[step.number, target.name] = Built(
        config=target.name,
        error=known["error"],
        kernel=name,
        content=known["content"],
        warnings=new,
        seconds=known["seconds"],
    )
    return all_warnings


def _built(campaign: _Campaign, step: Step, target: Target, name: str) -> dict[str, Any]:
    started = time.monotonic()
    cache = campaign.store.cache
    try:
        entry = building.build(
            cache, campaign.store.apt, name, step.built_as(target.fragments, target.arch), jobs=campaign.order.jobs
        )
    except UsageError:
        raise  # a patch that does not apply, a fragment that is none: nothing to be validated
    except DoesNotBuild as error:
        campaign.tell(f"{step.title}: {target.name}: {error}")
        return {
            "error": str(error),
            "content": "",
            "warnings": [],
            "unseen": None,
            "seconds": time.monotonic() - started,
        }
    about = entry.about
    seconds = time.monotonic() - started
    campaign.tell(f"{step.title}: {target.name}: built in {seconds:.0f} s")
    if not target.boots:
        cache.release()
        cache.discard(building.KIND, name)  # it was only compiled to see whether it can be
    return {
        "error": "", "content": about["content"], "warnings": about.get("warnings", []),
        "unseen": about.get("unseen", []), "seconds": seconds,
    }  # fmt: skip


def _build_key(campaign: _Campaign, step: Step, target: Target) -> str:
    return f"{campaign.order.series.key}-{step.number}-{target.name}"


# Running


def _bootable(campaign: _Campaign) -> list[tuple[Step, Target]]:
    return [
        (step, target)
        for step in campaign.order.series.steps
        for target in campaign.order.targets
        if target.boots and not campaign.built[step.number, target.name].error
    ]


def _booting(campaign: _Campaign) -> list[tuple[Step, Target]]:
    return [(step, target) for step, target in _bootable(campaign) if not campaign.boots[step.number, target.name]]


def _cell(campaign: _Campaign, step: Step, target: Target, *tests: str, turn: int = 0) -> Cell:
    built = campaign.built[step.number, target.name]
    return Cell(built.kernel, built.content, tests, campaign.order.options, turn)


def _run_cells(campaign: _Campaign, client: Client, wanted: Sequence[Cell], what: str) -> None:
    """Run those cells that are not done."""
    distinct = {one.key: one for one in wanted}
    left = [one for one in distinct.values() if campaign.ledger.found("cell", one.key) is None]
    if not left:
        return
    remote = campaign.order.scheduler is not None
    pack = (lambda name: cells.packed_kernel(campaign.store.cache, name)) if remote else None
    started = time.monotonic()
    campaign.tell(f"{what}: {len(left)} cells, {cluster.room(client)} at once")
    for done, (cell, told) in enumerate(cluster.run_all(client, left, pack), 1):
        spent = time.monotonic() - started
        rest = f"about {spent / done * (len(left) - done) / 60:.0f} min left" if done < len(left) else "all done"
        if isinstance(told, Ran):
            cells.keep(told, _folder(campaign, cell))
            campaign.ledger.note("cell", cell.key, {"code": told.code, "seconds": told.seconds})
            campaign.tell(
                f"{what}: {done} of {len(left)}, {rest}: {cell.tests[0]} on {cell.kernel}: {told.seconds:.0f} s"
            )
        else:
            campaign.troubles[cell.key] = str(told)
            campaign.tell(f"{what}: {done} of {len(left)}, {rest}: {cell.tests[0]} on {cell.kernel}: {told}")


def _folder(campaign: _Campaign, cell: Cell) -> Path:
    return campaign.state / "cells" / cell.key


def _verdicts(campaign: _Campaign, wanted: Iterable[Cell]) -> dict[str, Verdict]:
    found = {}
    for cell in wanted:
        folder = _folder(campaign, cell)
        if any(folder.glob("*/outcome.json")):
            found.update({one.verdict.test: one.verdict for one in Run.load(folder).results})
    return found


def _judge_boots(campaign: _Campaign) -> None:
    for step, target in _bootable(campaign):
        cell = _cell(campaign, step, target, BOOT)
        verdicts = _verdicts(campaign, [cell]).values()
        lost = [one for one in verdicts if one.stage and one.outcome in (Outcome.FAIL, Outcome.MISS)]
        dead = bool(lost) and not any(one.outcome is Outcome.PASS for one in verdicts)
        campaign.boots[step.number, target.name] = lost[0].reason if dead else ""


# Judging


def _changes(
    campaign: _Campaign, target: Target, run: Callable[[Sequence[Cell], str], None]
) -> dict[int, list[Change]]:
    """Compare each step with the last one that boots, and ask again whatever changed."""
    found: dict[int, list[Change]] = {}
    before: Step | None = None
    for step in [one for one, its_target in _booting(campaign) if its_target is target]:
        if before is not None:
            then, now = (_tested(campaign, one, target) for one in (before, step))
            found[step.number] = changes.changed(then, now)
            _ask_again(campaign, target, (before, step), found[step.number], run)
        before = step
    return found


def _ask_again(
    campaign: _Campaign, target: Target, pair: tuple[Step, Step], found: Sequence[Change],
    run: Callable[[Sequence[Cell], str], None],
) -> None:  # fmt: skip
    if not found:
        return
    tests = tuple(_again(campaign, one.test) for one in found)
    for turn in range(1, changes.TURNS + 1):
        asked = [_cell(campaign, step, target, *tests, turn=turn) for step in pair]
        run(asked, f"{pair[1].title}: {len(found)} changed, asked again ({turn} of {changes.TURNS})")
        changes.add(found, *(_verdicts(campaign, [one]) for one in asked))


def _again(campaign: _Campaign, test: str) -> str:
    """Give what asks for a test alone: its file as it was asked for, for node ids begin where pytest did."""
    file, _, node = test.partition("::")
    given = next((one for one in campaign.order.tests if Path(one).name == Path(file).name), file)
    return f"{given}::{node}"


def _tested(campaign: _Campaign, step: Step, target: Target) -> dict[str, Verdict]:
    return _verdicts(campaign, (_cell(campaign, step, target, test) for test in (BOOT, *campaign.order.tests)))


def _console(campaign: _Campaign, step: Step) -> set[str]:
    """Give what a step's kernels say while their base machines boot, without what varies."""
    found = set()
    for target in (its for one, its in _bootable(campaign) if one is step):
        for test in (BOOT, *campaign.order.tests):
            for path in _folder(campaign, _cell(campaign, step, target, test)).glob("base-*/console.log"):
                lines = decoded(path.read_bytes()[: 1 << 20]).splitlines()
                found |= {_STAMP.sub("", line) for line in lines if _STAMP.match(line)}
    return found


def _new_lines(now: set[str], then: set[str]) -> list[str]:
    known = {_VARIES.sub("N", line) for line in then}
    return sorted(line for line in now if _VARIES.sub("N", line) not in known and not line.startswith("iov-harness:"))


def _step(campaign: _Campaign, step: Step, found: Mapping[str, Mapping[int, Sequence[Change]]]) -> StepResult:
    steps = campaign.order.series.steps
    targets = [target for one, target in _booting(campaign) if one is step]
    verdicts = [one for target in targets for one in _tested(campaign, step, target).values()]
    earlier = [one for one, _ in _booting(campaign) if one.number < step.number]
    counts = Counter(one.outcome for one in verdicts)
    changed = [
        Changed(
            test=one.test, config=target, kind=one.kind, reason=one.reason, rates=one.rates,
            before=[str(each) for each in one.before], after=[str(each) for each in one.after],
        )
        for target, by_step in found.items()
        for one in by_step.get(step.number, ())
    ]  # fmt: skip
    order = list(Kind)
    untold = [f"{one.test}: {one.outcome}: {one.reason}" for one in verdicts if one.outcome in _UNTOLD]
    untold += [
        f"{test} ({target.name}): {trouble}"
        for target in targets
        for test in (BOOT, *campaign.order.tests)
        if (trouble := campaign.troubles.get(_cell(campaign, step, target, test).key))
    ]
    return StepResult(
        number=step.number, title=step.title,
        builds=[campaign.built[step.number, target.name] for target in campaign.order.targets],
        unseen=campaign.unseen[step.number] if step is not steps[0] else [],
        boot=next((why for (number, _), why in campaign.boots.items() if number == step.number and why), ""),
        console=_new_lines(_console(campaign, step), _console(campaign, earlier[-1])) if earlier else [],
        changes=sorted(changed, key=lambda one: (order.index(Kind(one.kind)), one.test)),
        counts={str(outcome): counts[outcome] for outcome in Outcome if counts[outcome]},
        untold=untold,
    )  # fmt: skip


def _lay_out_steps(campaign: _Campaign) -> None:
    """Make a folder for each step that reads as one run: links to what its cells left."""
    top = campaign.state / "steps"
    shutil.rmtree(top, ignore_errors=True)
    for step, target in _bootable(campaign):
        folder = top / f"{step.number:03}-{target.name}"
        folder.mkdir(parents=True)
        (folder / "title").write_text(f"{step.title}\n", encoding="utf-8")
        for test in (BOOT, *campaign.order.tests):
            for record in _folder(campaign, _cell(campaign, step, target, test)).glob("*"):
                if record.is_dir() and not (folder / record.name).exists():
                    (folder / record.name).symlink_to(record.resolve())
