# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are started for tests, and those that tests share, with machines that only are or are not sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import GuestFailure, MachineLost, Stage, UsageError
from harness.guest.reports import ReportKind
from harness.machine.spec import Spec
from harness.outcome import Outcome
from harness.pytest_plugin.case import Case
from harness.pytest_plugin.options import RUN
from harness.pytest_plugin.started import Pool, started
from harness.qemu.library import Library
from harness.qemu.profile import Profile

LOST = MachineLost("lost", stage=Stage.KERNEL, detail="", complained=False)


class KernelIsToBlame(GuestFailure):
    pass


@dataclass
class Fake:
    """A machine as far as a pool looks at it."""

    spec: Spec
    directory: Path
    loss: str | None = None
    said: list[str] = field(default_factory=list)
    dropped: Counter[ReportKind] = field(default_factory=Counter)
    closed: int = 0

    @property
    def console(self) -> Any:
        return SimpleNamespace(reports=lambda: self.said, dropped=self.dropped)

    def close(self) -> None:
        self.closed += 1


@dataclass
class Run:
    """A run whose machines come up, or are lost; a kernel is asked about once one was lost."""

    directory: Path
    store: Any = field(default_factory=lambda: SimpleNamespace(library=Library()))
    parts: Any = None
    raises: MachineLost | None = None
    colds: list[bool] = field(default_factory=list)

    @property
    def starter(self) -> Run:
        return self

    @property
    def reference(self) -> Run:
        return self

    def check(self, profile: Profile) -> None:
        if profile.name == "minimal":
            raise UsageError("QEMU lacks something")

    def bring_up(
        self, stack: ExitStack, spec: Spec, directory: Path, *, cold: bool, coming_up: Callable[[Fake], None]
    ) -> Fake:
        machine = Fake(spec, directory)
        stack.callback(machine.close)
        coming_up(machine)
        self.colds.append(cold)
        if self.raises is not None:
            raise self.raises
        return machine

    def judged(self, lost: MachineLost, spec: Spec, *, cold: bool) -> Exception:
        assert (lost, spec.profile.name, cold) == (LOST, "igb-sriov", False)
        return KernelIsToBlame("blamed")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Make a run in which nothing was started yet."""
    return Run(tmp_path)


def case_of(run: Run, *, cold: bool = False) -> Case:
    item = SimpleNamespace(config=SimpleNamespace(stash={RUN: run}), nodeid="tests/guest/test_x.py::test_y[igb]")
    judge = SimpleNamespace(machines=[], complaint=lambda: None)
    case = SimpleNamespace(item=item, judge=judge, cold=cold, booting=None, phases=[])
    case.boots = partial(Case.boots, cast("Case", case))
    return cast("Case", case)


def given(pool: Pool, case: Case, profile: str = "igb-sriov", **parameters: Any) -> Fake:
    made = cast("Fake", pool.machine(case, pytest.mark.machine(profile, **parameters).mark))
    assert case.judge.machines[-1] is cast("Any", made)
    return made


def test_a_machine_is_its_cases_to_be_judged_and_ends_with_its_stack(run: Run) -> None:
    case = case_of(run)
    with ExitStack() as stack:
        machine: Any = started(case, stack, run.directory, "nvme-sriov", {"sriov_max_vfs": 7})
        assert (machine.spec.profile.name, machine.spec.parameters["sriov_max_vfs"]) == ("nvme-sriov", 7)
        assert (case.judge.machines, case.booting, machine.closed) == ([machine], None, 0)
    assert machine.closed == 1


def test_a_machine_that_is_lost_is_judged_by_the_reference_kernel_and_stays_the_cases_own(run: Run) -> None:
    run.raises = LOST
    case = case_of(run)
    with pytest.raises(KernelIsToBlame) as caught, ExitStack() as stack:
        started(case, stack, run.directory, "igb-sriov", {})
    assert caught.value.__suppress_context__
    booting: Any = case.booting
    assert (case.judge.machines, booting.closed) == ([], 1)


@pytest.mark.parametrize(
    ("profile", "parameters"), [("igb-sriow", {}), ("igb-sriov", {"memory": 1}), ("minimal", {})], ids=str
)
def test_what_cannot_be_started_is_refused_before_there_is_a_machine(
    run: Run, profile: str, parameters: dict[str, Any]
) -> None:
    case = case_of(run)
    with pytest.raises(UsageError), ExitStack() as stack:
        started(case, stack, run.directory, profile, parameters)
    assert (case.booting, run.colds) == (None, [])


def test_a_machine_is_shared_while_it_is_as_good_as_new(run: Run) -> None:
    with Pool() as pool:
        cases = [case_of(run) for _ in range(3)]
        machines = {id(given(pool, case)) for case in cases}
        assert len(machines) == 1
        for case in cases:
            case.phases.append(cast("Any", SimpleNamespace(outcome=Outcome.PASS)))
        assert [len(case.judge.machines) for case in cases] == [1, 1, 1]
        assert len(run.colds) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [({}, {"memory": 192}), ({}, {"profile": "virtio-sriov"}), ({"memory": 192}, {"memory": 256})],
    ids=str,
)
def test_another_machine_is_not_shared_with_it(run: Run, first: dict[str, Any], second: dict[str, Any]) -> None:
    with Pool() as pool:
        one, other = given(pool, case_of(run), **first), given(pool, case_of(run), **second)
        assert one is not other
        assert given(pool, case_of(run), **first) is one
        assert given(pool, case_of(run), **second) is other


def test_the_order_in_which_a_mark_names_parameters_does_not_matter(run: Run) -> None:
    with Pool() as pool:
        one = given(pool, case_of(run), memory=192, cpus=1)
        assert given(pool, case_of(run), cpus=1, memory=192) is one


def test_a_machine_that_was_booted_is_not_shared_with_tests_that_take_a_clone(run: Run) -> None:
    with Pool() as pool:
        cold, warm = given(pool, case_of(run, cold=True)), given(pool, case_of(run))
        assert cold is not warm
        assert given(pool, case_of(run, cold=True)) is cold
    assert run.colds == [True, False]


SPOILED: dict[str, Callable[[Fake, Case], Any]] = {
    "lost": lambda machine, _: setattr(machine, "loss", "panic"),
    "reported": lambda machine, _: machine.said.append("WARNING"),
    "reported too much": lambda machine, _: machine.dropped.update([ReportKind.WARN]),
    **{
        str(outcome): lambda _, case, outcome=outcome: case.phases.extend(
            SimpleNamespace(outcome=one) for one in (Outcome.PASS, outcome, Outcome.PASS)
        )
        for outcome in Outcome
        if outcome not in (Outcome.PASS, Outcome.SKIP)
    },
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_machine_of_which_anything_was_to_be_told_is_ended_and_replaced(
    run: Run, spoil: Callable[[Fake, Case], Any]
) -> None:
    with Pool() as pool:
        case = case_of(run)
        first = given(pool, case)
        spoil(first, case)
        second = given(pool, case_of(run))
        assert second is not first
        assert (first.closed, second.closed) == (1, 0)
        assert given(pool, case_of(run)) is second
    assert (first.closed, second.closed) == (1, 1)


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.SKIP])
def test_only_the_last_test_that_used_it_tells_whether_a_machine_is_sound(run: Run, outcome: Outcome) -> None:
    """What the tests before it had to tell is seen in the machine, or was seen before that test got it."""
    with Pool() as pool:
        cases = [case_of(run), case_of(run)]
        first, _ = (given(pool, case) for case in cases)
        cases[0].phases.append(cast("Any", SimpleNamespace(outcome=Outcome.FAIL)))
        cases[1].phases.append(cast("Any", SimpleNamespace(outcome=outcome)))
        assert given(pool, case_of(run)) is first


def test_every_machine_of_a_pool_ends_with_it(run: Run) -> None:
    with Pool() as pool:
        machines = [given(pool, case_of(run), memory=memory) for memory in (192, 256, 512)]
        assert [machine.closed for machine in machines] == [0, 0, 0]
    assert [machine.closed for machine in machines] == [1, 1, 1]


def test_a_machine_whose_end_goes_wrong_does_not_keep_the_others_alive(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Fake] = []

    def close(machine: Fake) -> None:
        ended.append(machine)
        raise RuntimeError("QMP does not let go")

    monkeypatch.setattr(Fake, "close", close)
    pool = Pool()
    for memory in (192, 256):
        given(pool, case_of(run), memory=memory)
    with pytest.raises(RuntimeError), pool:
        pass
    assert len(ended) == 2


def test_a_machine_that_is_lost_before_it_is_of_use_is_not_given_again(run: Run) -> None:
    with Pool() as pool:
        run.raises = LOST
        case = case_of(run)
        with pytest.raises(KernelIsToBlame):
            given(pool, case)
        assert cast("Any", case.booting).closed == 1
        run.raises = None
        assert given(pool, case_of(run)).closed == 0


def test_a_shared_machine_has_a_folder_of_its_own_named_after_its_module(run: Run) -> None:
    with Pool() as pool:
        folders = [given(pool, case_of(run), memory=memory).directory for memory in (192, 256)]
    names = ["guest-test_x.py-shared-igb-sriov", "guest-test_x.py-shared-igb-sriov.2"]
    assert [folder.name for folder in folders] == names
    assert all(folder.is_dir() for folder in folders)


def test_what_a_shared_machine_did_after_its_last_test_is_told_to_the_next_one_and_it_is_ended(run: Run) -> None:
    first, second = case_of(run), case_of(run)
    late = GuestFailure("a report, late")
    with Pool() as pool:
        machine = given(pool, first)
        cast("Any", first.judge).complaint = lambda: late
        with pytest.raises(GuestFailure, match="late") as caught:
            given(pool, second)
        assert machine.closed == 1
        assert caught.value.__notes__ == [f"on the machine that is shared, after {first.item.nodeid}"]


def test_what_a_shared_machine_did_after_the_last_test_of_all_is_told_too(run: Run) -> None:
    case, pool = case_of(run), Pool()
    machine = given(pool, case)
    cast("Any", case.judge).complaint = lambda: GuestFailure("late")
    with pytest.raises(GuestFailure, match="late"):
        pool.__exit__()
    assert machine.closed >= 1
