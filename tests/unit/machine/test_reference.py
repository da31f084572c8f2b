# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault a boot that failed was, asked of a reference kernel that boots, or does not, without any machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import CouldNotRun, GuestFailure, MachineLost, Stage, UsageError
from harness.machine.parts import Parts, Store
from harness.machine.reference import KernelDoesNotBoot, Reference
from harness.machine.spec import Spec
from harness.machine.start import Starter
from harness.provision.kernel import REFERENCE
from harness.qemu.library import Library
from harness.qemu.profile import Profile, Value


def lost_at(stage: Stage, *, complained: bool = False) -> MachineLost:
    text = f"machine igb-sriov lost at stage {stage}: nothing"
    return MachineLost(text, stage=stage, detail="  | Linux version", complained=complained)


LOST = lost_at(Stage.KERNEL)


@dataclass(frozen=True)
class Kernel:
    name: str

    @property
    def is_reference(self) -> bool:
        return self.name == REFERENCE


@dataclass(frozen=True)
class FewParts:
    kernel: Kernel

    def check(self, profile: Profile) -> None:
        if profile.name == "virtio-sriov" and self.kernel.is_reference:
            raise UsageError("the reference kernel lacks something")


@dataclass
class Shelf:
    """A store of parts that are names, and of kernels that come up or raise what `raises` says."""

    raises: BaseException | None = None
    library: Library = field(default_factory=Library)
    booted: list[tuple[Spec, Path, bool]] = field(default_factory=list)

    def with_kernel(self, parts: FewParts, name: str) -> FewParts:
        return replace(parts, kernel=Kernel(name))

    @contextmanager
    def running(self, spec: Spec, directory: Path, *, cold: bool) -> Iterator[None]:
        self.booted.append((spec, directory, cold))
        if self.raises is not None:
            raise self.raises
        yield


def spec_of(kernel: str = "mine", profile: str = "igb-sriov", **parameters: Value) -> Spec:
    return Spec(Library().get(profile), parameters, cast("Parts", FewParts(Kernel(kernel))), ())


@pytest.fixture
def shelf() -> Shelf:
    """Make a store whose reference kernel boots."""
    return Shelf()


@pytest.fixture
def asked(shelf: Shelf, tmp_path: Path) -> Reference:
    """Make the one that is asked."""
    return Reference(cast("Store", shelf), tmp_path / "run", cast("Starter", shelf))


def test_a_kernel_that_is_lost_where_the_reference_boots_is_to_blame(asked: Reference) -> None:
    blamed = asked.judged(LOST, spec_of(), cold=False)
    assert isinstance(blamed, KernelDoesNotBoot)
    assert isinstance(blamed, GuestFailure)
    assert str(blamed) == f"{LOST}; the reference kernel {REFERENCE} boots on the same machine"
    assert blamed.__cause__ is LOST
    assert blamed.__notes__ == [LOST.detail]


@pytest.mark.parametrize("error", [CouldNotRun("no QEMU", stage=Stage.QEMU), UsageError("no such kernel")])
def test_where_the_reference_does_not_boot_either_nobody_is_blamed(
    shelf: Shelf, asked: Reference, error: Exception
) -> None:
    shelf.raises = error
    assert asked.judged(LOST, spec_of(), cold=False) is LOST


ELSEWHERE = [stage for stage in Stage if stage not in (Stage.KERNEL, Stage.PLUG)]


@pytest.mark.parametrize("stage", ELSEWHERE)
def test_what_is_lost_at_another_stage_is_not_asked_about(shelf: Shelf, asked: Reference, stage: Stage) -> None:
    lost = lost_at(stage)
    assert asked.judged(lost, spec_of(), cold=False) is lost
    assert not shelf.booted


@pytest.mark.parametrize("stage", ELSEWHERE)
def test_a_kernel_that_complained_is_asked_about_once_it_runs(asked: Reference, stage: Stage) -> None:
    lost = lost_at(stage, complained=True)
    blamed = isinstance(asked.judged(lost, spec_of(), cold=False), KernelDoesNotBoot)
    assert blamed == (stage in {Stage.INIT, Stage.SSH})


def test_a_kernel_that_does_not_finish_with_a_device_is_asked_about(asked: Reference) -> None:
    assert isinstance(asked.judged(lost_at(Stage.PLUG), spec_of(), cold=False), KernelDoesNotBoot)


def test_a_profile_that_the_reference_cannot_serve_blames_nobody(shelf: Shelf, asked: Reference) -> None:
    assert asked.judged(LOST, spec_of(profile="virtio-sriov"), cold=False) is LOST
    assert not shelf.booted


def test_the_reference_is_not_measured_against_itself(shelf: Shelf, asked: Reference) -> None:
    assert asked.judged(LOST, spec_of(REFERENCE), cold=False) is LOST
    assert not shelf.booted


@pytest.mark.parametrize("error", [None, LOST])
def test_the_reference_is_booted_once_for_each_machine(shelf: Shelf, asked: Reference, error: Exception | None) -> None:
    shelf.raises = error
    for _ in range(2):
        for memory in (192, 512):
            verdict = asked.judged(LOST, spec_of(memory=memory), cold=False)
            assert isinstance(verdict, CouldNotRun if error else KernelDoesNotBoot)
    assert [spec.parameters["memory"] for spec, _, _ in shelf.booted] == [192, 512]


def test_the_reference_boots_the_same_machine_in_a_folder_of_its_own(
    shelf: Shelf, asked: Reference, tmp_path: Path
) -> None:
    asked.judged(LOST, spec_of(append="rdinit=/nowhere"), cold=True)
    ((spec, directory, cold),) = shelf.booted
    found = cast("Any", spec)
    assert (found.profile.name, found.parts.kernel.name, cold) == ("igb-sriov", REFERENCE, True)
    assert found.parameters == {"append": "rdinit=/nowhere"}
    assert directory == tmp_path / "run" / "reference-igb-sriov"
    assert directory.is_dir()


def test_a_bug_of_ours_is_not_taken_for_a_kernel_that_does_not_boot(shelf: Shelf, asked: Reference) -> None:
    shelf.raises = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        asked.judged(LOST, spec_of(), cold=False)
