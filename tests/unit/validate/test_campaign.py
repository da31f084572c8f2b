# SPDX-License-Identifier: GPL-2.0-or-later
"""A validation from its first build to its verdicts, with kernels and cells that are only files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from harness.errors import CouldNotRun, UsageError
from harness.outcome import Exit, Outcome, Verdict
from harness.provision.cache import Cache
from harness.provision.kbuild.make import DoesNotBuild
from harness.provision.kbuild.order import Order as KernelOrder
from harness.provision.kbuild.series import DoesNotApply
from harness.report import validation
from harness.report.run import Run
from harness.report.validation import Validation
from harness.validate import campaign, cells, cluster, steps
from harness.validate.campaign import BOOT
from harness.validate.cells import Cell, Ran
from harness.validate.order import Order, Target
from harness.validate.steps import Series

TESTS = ("tests/guest/sriov/test_one.py", "tests/guest/sriov/test_two.py")
P, F, S = Outcome.PASS, Outcome.FAIL, Outcome.SKIP


@dataclass(frozen=True)
class Asked:
    """Which kernel is asked, by its step, which test, and which time it is."""

    kernel: int
    test: str
    turn: int


Says = Callable[[Asked], Outcome | str]


@dataclass
class Lab:
    """What kernels are like, by the number of their step, and what was asked for."""

    folder: Path
    says: Says = lambda _: P
    warnings: Mapping[int, list[str]] = field(default_factory=dict)
    unseen: Mapping[int, list[str]] = field(default_factory=dict)
    broken: frozenset[int] = frozenset()
    inapplicable: frozenset[int] = frozenset()
    full: frozenset[int] = frozenset()
    content: Mapping[int, str] = field(default_factory=dict)
    console: Mapping[Any, str] = field(default_factory=dict)
    dead: frozenset[int] = frozenset()
    built: list[str] = field(default_factory=list)
    ran: list[Cell] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    def build(self, _cache: Cache, _apt: object, name: str, order: KernelOrder, **_: Any) -> Any:
        number = len(order.series)
        self.built.append(name)
        if number in self.inapplicable:
            raise DoesNotApply("patch 1 does not apply")
        if number in self.full:
            raise CouldNotRun("cache folder: No space left on device")
        if number in self.broken:
            raise DoesNotBuild("kernel does not build: iov.c:7: error: expected expression")
        about = {
            "content": self.content.get(number, f"c{number}"), "warnings": self.warnings.get(number, []),
            "unseen": self.unseen.get(number, []),
        }  # fmt: skip
        self.kept[name] = SimpleNamespace(about=about)
        return self.kept[name]

    def run(self, cell: Cell) -> Ran:
        self.ran.append(cell)
        number = int(cell.kernel.split("-")[-2])
        folder = self.folder / "records" / f"{len(self.ran)}"
        names = cell.tests if "::" in cell.tests[0] else [f"{cell.tests[0]}::test_a", f"{cell.tests[0]}::test_b"]
        for place, name in enumerate(names):
            said = self.says(Asked(number, name, cell.turn))
            if not isinstance(said, Outcome):
                raise CouldNotRun(said)
            outcome, stage = (F, "kernel") if number in self.dead else (said, "")
            made = folder / name.replace("/", "-")
            made.mkdir(parents=True)
            Verdict(test=name, outcome=outcome, stage=stage, reason=f"reason {outcome}", started=float(place)).save(
                made
            )
        cold = folder / "test_clock-cold"
        cold.mkdir()
        line = self.console.get((number, cell.turn), self.console.get(number, ""))
        (cold / "console.log").write_text(f"[    0.0{len(self.ran)}0000] pid {len(self.ran)} says\nfirmware\n{line}")
        return Ran(Exit.OK, cells._packed(folder), 1.0)


_THE_LAB: list[Lab] = []


def _run(cell: Cell, kernel: bytes | None = None) -> Ran:
    """Dask sends functions by their names, and objects as copies."""
    assert kernel in (None, b"kernel")
    return _THE_LAB[0].run(cell)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path)
    monkeypatch.setattr("harness.provision.kbuild.build.build", made.build)
    monkeypatch.setattr("harness.provision.kbuild.build.found", lambda _, name: made.kept.get(name))
    monkeypatch.setattr(cells, "run", _run)
    _THE_LAB[:] = [made]
    return made


@pytest.fixture
def validated(lab: Lab) -> Callable[..., Validation]:
    def validate(count: int = 2, files: tuple[str, ...] = ("drivers/pci/iov.c",), **more: Any) -> Validation:
        orders = [KernelOrder("tree", tuple(Path(f"{one}") for one in range(number))) for number in range(count + 1)]
        every = [
            steps.Step(number, f"patch {number}", order, files, f"{number}") for number, order in enumerate(orders)
        ]
        series = Series(tuple(every))
        state = lab.folder / "state"
        state.mkdir(exist_ok=True)
        tell = more.pop("tell", lab.told.append)
        given: dict[str, Any] = {"targets": [Target()], "tests": TESTS, **more}
        store: Any = SimpleNamespace(cache=Cache(lab.folder / "cache"), apt=None)
        return campaign.validate(store, Order(series, "series.mbox", "tree", **given), state, tell)

    return validate


def test_a_series_that_changes_nothing_is_well(lab: Lab, validated: Callable[..., Validation]) -> None:
    found = validated()
    assert found.code is Exit.OK
    assert [one.headline for one in found.steps] == ["builds, boots, breaks nothing"] * 3
    assert [one.counts for one in found.steps] == [{"PASS": 6}] * 3
    assert len(lab.ran) == 9


def test_the_patch_that_breaks_a_test_is_named_and_the_next_is_not(
    lab: Lab, validated: Callable[..., Validation]
) -> None:
    lab.says = lambda one: F if one.kernel >= 1 and one.test == f"{TESTS[1]}::test_b" else P
    found = validated()
    assert found.code is Exit.FAIL
    (broken,) = found.steps[1].changes
    assert (broken.test, broken.kind) == (f"{TESTS[1]}::test_b", "broken")
    assert broken.rates == "fails 4 of 4, before 0 of 4"
    assert Verdict.load(lab.folder / "state" / broken.record).outcome is F
    assert not found.steps[2].changes
    assert not found.steps[2].is_bad
    assert sorted(one.turn for one in lab.ran if one.turn) == [1, 1, 2, 2, 3, 3]
    text = validation.render(found)
    assert "[1: patch 1] builds, boots, breaks 1 test" in text
    assert f"BROKEN {TESTS[1]}::test_b (base)" in text


def test_a_repaired_test_is_told_and_no_fault(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.says = lambda one: F if one.kernel == 0 and one.test == f"{TESTS[0]}::test_a" else P
    found = validated()
    assert found.code is Exit.OK
    assert [one.kind for one in found.steps[1].changes] == ["fixed"]
    assert found.steps[1].headline == "builds, boots, breaks nothing, 1 fixed test"


def test_what_a_series_begins_and_ends_is_no_fault(lab: Lab, validated: Callable[..., Validation]) -> None:
    begun = f"{TESTS[0]}::test_a"
    lab.says = lambda one: (S, F, P)[one.kernel] if one.test == begun else P
    found = validated()
    assert found.code is Exit.OK
    (unmet,), (fixed,) = (found.steps[number].changes for number in (1, 2))
    assert (unmet.kind, unmet.until, fixed.kind, fixed.rates) == (
        "unmet",
        "2: patch 2",
        "fixed",
        "fails 0 of 4, before 4 of 4",
    )
    asked_again = sorted(cell.kernel.split("-")[-2] for cell in lab.ran if cell.turn)
    assert asked_again == ["1", "1", "1", "2", "2", "2"]  # not step 0, and not step 1 a second time
    text = validation.render(found)
    assert "[1: patch 1] builds, boots, breaks nothing, 1 pending test" in text
    assert "1 test that could not run before: failing until [2: patch 2]" in text


def test_what_a_series_begins_and_does_not_end_is_told_of_where_it_began(
    lab: Lab, validated: Callable[..., Validation]
) -> None:
    lab.says = lambda one: (S, F, F)[one.kernel] if one.test == f"{TESTS[0]}::test_a" else P
    found = validated()
    assert found.code is Exit.FAIL
    assert [one.is_bad for one in found.steps] == [False, True, False]
    text = validation.render(found)
    assert f"UNMET {TESTS[0]}::test_a (base)\n    fails 4 of 4, before it could not run" in text


@pytest.mark.parametrize(
    ("outcomes", "kinds"),
    [
        ((S, F, S, P), [["unmet"], ["skipped"], ["fixed"]]),
        ((P, S, F, P), [["skipped"], ["broken"], ["fixed"]]),
        ((P, S, S, P), [["skipped"], [], []]),
        ((F, P, P, F), [["fixed"], [], ["broken"]]),
    ],
)
def test_a_test_is_held_against_when_it_could_last_run(
    lab: Lab, validated: Callable[..., Validation], outcomes: tuple[Outcome, ...], kinds: list[list[str]]
) -> None:
    lab.says = lambda one: outcomes[one.kernel] if one.test == f"{TESTS[0]}::test_a" else P
    found = validated(count=3)
    assert [[change.kind for change in one.changes] for one in found.steps[1:]] == kinds


def test_an_answer_that_was_lost_on_the_step_before_is_asked_for_once_more(
    lab: Lab, validated: Callable[..., Validation]
) -> None:
    times: list[Asked] = []

    def says(one: Asked) -> Outcome | str:
        times.append(one)
        if one.kernel == 1 and one.turn == 2 and times.count(one) == 1:
            return "no room"
        return F if one.kernel == 1 and one.test == f"{TESTS[0]}::test_a" else P

    lab.says = says
    found = validated()
    assert [[one.kind for one in step.changes] for step in found.steps] == [[], ["lost"], ["fixed"]]


def test_tests_that_can_run_with_a_patch_and_pass_are_counted(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.says = lambda one: S if one.kernel == 0 and one.test == f"{TESTS[0]}::test_a" else P
    found = validated()
    assert found.code is Exit.OK
    assert found.steps[1].headline == "builds, boots, breaks nothing, 1 added test"
    assert not [cell for cell in lab.ran if cell.turn]


def test_a_flaky_test_is_measured_and_blames_nobody(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.says = lambda one: F if one == Asked(1, f"{TESTS[0]}::test_a", 0) else P
    found = validated(count=1)
    assert found.code is Exit.OK
    (flaky,) = found.steps[1].changes
    assert (flaky.kind, flaky.rates) == ("flaky", "fails 1 of 4, before 0 of 4")


def test_a_patch_that_does_not_build_is_passed_over_for_the_next(
    lab: Lab, validated: Callable[..., Validation]
) -> None:
    lab.broken = frozenset({1})
    lab.says = lambda one: F if one.kernel == 2 and one.test == f"{TESTS[0]}::test_a" else P
    found = validated()
    assert found.steps[1].headline == "does not build (base)"
    assert "iov.c:7: error: expected expression" in found.steps[1].builds[0].error
    assert [one.kind for one in found.steps[2].changes] == ["broken"]


def test_new_warnings_and_files_that_nobody_compiled_are_named(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.warnings = {0: ["a.c: old"], 1: ["a.c: old", "b.c: new"], 2: ["a.c: old", "b.c: new"]}
    lab.unseen = {1: ["arch/powerpc/kernel/eeh.c"]}
    found = validated(files=("arch/powerpc/kernel/eeh.c", "drivers/pci/iov.c"))
    assert [one.builds[0].warnings for one in found.steps] == [[], ["b.c: new"], []]
    assert [one.unseen for one in found.steps] == [[], ["arch/powerpc/kernel/eeh.c"], []]
    text = validation.render(found)
    assert "not built: arch/powerpc/kernel/eeh.c" in text
    assert "new warning (base): b.c: new" in text


def test_a_kernel_that_does_not_boot_is_asked_nothing_more(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.dead = frozenset({1})
    found = validated()
    assert found.code is Exit.FAIL
    assert found.steps[1].headline == "builds, does not boot"
    assert "does not boot (base): reason FAIL" in validation.render(found)
    assert [(cell.tests[0], cell.turn) for cell in lab.ran if "-1-" in cell.kernel] == [(BOOT, 0), (BOOT, 1)]
    assert not found.steps[2].changes  # it is held against the base


def test_what_the_kernel_says_anew_while_it_boots_is_named(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.console = {1: "[    1.000000] WARN: 17 things\n", 2: "[    2.000000] WARN: 18 things\n"}
    found = validated()
    assert [one.console for one in found.steps] == [[], ["WARN: 17 things"], []]
    assert found.code is Exit.FAIL
    assert [one.turn for one in lab.ran if one.tests == (BOOT,) and "-1-" in one.kernel] == [0, 1, 2, 3]


def test_what_a_kernel_says_only_now_and_then_is_no_patchs_fault(
    lab: Lab, validated: Callable[..., Validation]
) -> None:
    noise = "[    1.000000] APIC calibration off by 8 ms\n"
    lab.console = {(1, 0): noise, (1, 1): noise, (2, 0): noise, (2, 1): noise, (2, 2): noise, (2, 3): noise, (1, 2): ""}
    assert [one.console for one in validated().steps] == [[], [], []]


def test_the_same_kernel_is_tested_once(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.content = {1: "c0", 2: "c0"}
    found = validated()
    assert len(lab.ran) == 3
    assert [one.counts for one in found.steps] == [{"PASS": 6}] * 3


def test_a_validation_that_was_cut_off_goes_on(lab: Lab, validated: Callable[..., Validation]) -> None:
    def cut_off(line: str) -> None:
        if "tests: 3 of 6" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validated(tell=cut_off)
    ran, built = len(lab.ran), len(lab.built)
    found = validated()
    assert len(lab.built) == built
    assert len(lab.ran) - ran == 3  # of nine, six were noted
    assert [one.counts for one in found.steps] == [{"PASS": 6}] * 3


def test_a_cell_without_a_result_is_told_and_not_taken_for_well(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.says = lambda one: "no room" if one.kernel == 1 and one.test.startswith(TESTS[0]) else P
    found = validated()
    assert found.code is Exit.ERROR
    assert found.steps[1].untold[0] == f"{TESTS[0]} (base): no room"
    lab.says = lambda _: P
    assert validated().code is Exit.OK  # what has no result is asked again


def test_the_steps_are_runs_that_reports_read(lab: Lab, validated: Callable[..., Validation]) -> None:
    validated()
    state = lab.folder / "state"
    runs: list[Run] = validation.runs(state)
    assert [one.title for one in runs] == ["base", "1: patch 1", "2: patch 2"]
    assert json.loads((state / validation.FILE).read_text())["series"] == "series.mbox"
    assert Validation.load(state).steps[1].title == "1: patch 1"


def test_what_was_lost_with_a_worker_is_sent_and_run_again(lab: Lab) -> None:
    """Dask cancels what waits for a kernel that only a lost worker had."""
    given = [Cell(f"v-key-{number}-base", f"c{number}", (TESTS[0],)) for number in range(3)]
    packed: list[str] = []

    def kernel(name: str) -> bytes:
        packed.append(name)
        return b"kernel"

    with cluster.joined(None, 1) as client:
        submit, count = client.submit, iter(range(100))

        def losing(*arguments: Any, **more: Any) -> Any:
            future = submit(*arguments, **more)
            if next(count) < 2:
                future.cancel(force=True)
            return future

        client.submit = losing
        told = [(cell.kernel, type(ran)) for cell, ran in cluster.run_all(client, given, kernel)]
    assert sorted(told) == [(cell.kernel, Ran) for cell in given]
    assert sorted(packed) == sorted([cell.kernel for cell in given] + [cell.kernel for cell in given[:2]])
    assert len(lab.ran) >= 3


def _until_there(count: int, folder: Path) -> NoReturn:
    while len([*folder.iterdir()]) < count:
        time.sleep(0.01)
    raise SystemExit(143)


def test_cells_that_nobody_waits_for_are_ended(tmp_path: Path) -> None:
    running = cells.Running()
    with ThreadPoolExecutor() as threads:
        given = [["sh", "-c", f"touch {name}; exec sleep 60"] for name in ("first", "second")]
        began = [threads.submit(running.run, words, tmp_path, {**os.environ}) for words in given]
        with pytest.raises(SystemExit), running.waited_for():
            _until_there(2, tmp_path)
        assert [one.result(5).returncode for one in began] == [-9, -9]


def test_a_cell_that_ended_badly_and_left_nothing_is_not_taken_for_well(
    lab: Lab, validated: Callable[..., Validation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "run", _run)
    found = validated()
    assert found.code is Exit.OK
    monkeypatch.setattr(cells, "run", _crashing)
    (lab.folder / "state" / "ledger.sqlite").unlink()
    found = validated()
    assert found.code is Exit.ERROR
    assert sorted(found.steps[1].untold[:2]) == [
        f"{test} (base): `harness test` ended with 4, and no test says why" for test in TESTS
    ]
    assert {one.kind for one in found.steps[1].changes} == {"lost"}


def _crashing(cell: Cell, kernel: bytes | None = None) -> Ran:
    ran = _run(cell, kernel)
    if "-1-" not in cell.kernel or cell.tests[0] == BOOT:
        return ran
    empty = _THE_LAB[0].folder / "nothing"
    empty.mkdir(exist_ok=True)
    return Ran(Exit.ERROR, cells._packed(empty), 1.0)


def test_repeats_without_an_answer_make_nothing_certain(lab: Lab, validated: Callable[..., Validation]) -> None:
    def says(one: Asked) -> Outcome | str:
        if one.turn:
            return "its worker was lost"
        return F if one.kernel == 1 and one.test == f"{TESTS[0]}::test_a" else P

    lab.says = says
    found = validated(count=1)
    assert found.code is Exit.ERROR
    assert [one.kind for one in found.steps[1].changes] == ["lost"]
    assert all("its worker was lost" in one for one in found.steps[1].untold)


def test_a_host_in_trouble_is_no_kernel_that_does_not_boot(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.says = lambda one: Outcome.MISS if one.kernel == 1 else P
    found = validated(count=1)
    assert not found.steps[1].boot
    assert found.code is Exit.ERROR


def test_a_machine_that_cannot_build_is_no_verdict_of_a_patch(lab: Lab, validated: Callable[..., Validation]) -> None:
    """And once it can, the validation goes on as if nothing had been."""
    lab.full = frozenset({2})
    with pytest.raises(CouldNotRun, match="No space left on device"):
        validated()
    lab.full = frozenset()
    built = len(lab.built)
    found = validated()
    assert {step.headline for step in found.steps[1:]} == {"builds, boots, breaks nothing"}
    assert len(set(lab.built[:built]) & set(lab.built[built:])) == 1, "the one that failed"


def test_a_patch_that_does_not_apply_is_a_verdict_and_no_end(lab: Lab, validated: Callable[..., Validation]) -> None:
    lab.inapplicable = frozenset({2})
    found = validated()
    assert found.steps[2].headline == "does not apply"
    assert not found.steps[2].builds[0].applies
    assert found.steps[1].headline == "builds, boots, breaks nothing"
    lab.inapplicable = frozenset({0})
    (lab.folder / "state" / "ledger.sqlite").unlink()
    with pytest.raises(UsageError):
        validated(count=1, tests=TESTS[:1])
