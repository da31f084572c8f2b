# SPDX-License-Identifier: GPL-2.0-or-later
"""Which machine is booted and which is cloned, and when a checkpoint is made: with machines that are only files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lab import HOTPLUG, LOST, MADE, RAM, Lab

from harness.errors import CouldNotRun, MachineLost, Stage
from harness.machine import start as module
from harness.machine.checkpoint import Checkpoint
from harness.machine.spec import Spec
from harness.machine.start import Starter, key_of


def test_a_machine_is_cloned_from_a_checkpoint_of_its_base_machine(lab: Lab) -> None:
    lab.start(lab.starter(), lab.spec(), ssh_port=4711)
    assert lab.done == [("boot_base", 77, 0), ("save", 0, 0), ("close", 0, 0), ("clone", 77, 4711)]


@pytest.mark.parametrize(
    ("cold", "always", "spec"),
    [
        (True, False, {}),
        (False, True, {}),
        (False, False, {"hotplug": False}),
        *((False, False, {"config": {**HOTPLUG, missing: "n"}}) for missing in HOTPLUG),
        (False, False, {"config": {**HOTPLUG, "HOTPLUG_PCI_ACPI": "m"}}),
    ],
    ids=["asked for", "asked for all", "profile", *HOTPLUG, "no modules"],
)
def test_a_machine_is_booted_where_that_is_asked_for_or_nothing_can_be_plugged(
    lab: Lab, *, cold: bool, always: bool, spec: dict[str, Any]
) -> None:
    starter, wanted = lab.starter(cold=always), lab.spec(**spec)
    lab.start(starter, wanted, cold=cold, ssh_port=4711)
    assert lab.done == [("boot", 77, 4711)]
    if not cold:
        starter.prepare([wanted])
    assert lab.done == [("boot", 77, 4711)]


def test_a_kernel_whose_configuration_nobody_knows_is_cloned(lab: Lab) -> None:
    spec = lab.spec()
    unknown = replace(spec, parts=replace(spec.parts, kernel=replace(spec.parts.kernel, config=None)))
    lab.start(lab.starter(), unknown)
    assert lab.deeds == [*MADE, "clone"]


def test_one_checkpoint_serves_all_runs_and_all_profiles_of_its_base_machine(lab: Lab) -> None:
    first = lab.starter()
    lab.start(first, lab.spec())
    lab.start(first, lab.spec("nvme-sriov", sriov_max_vfs=7))
    lab.start(lab.starter(), lab.spec("virtio-sriov"))
    assert lab.deeds == [*MADE, "clone", "clone", "clone"]
    assert len(lab.kept) == 1
    assert {source.console.read_bytes() for source in lab.cloned} == {b"Linux\n"}


def test_checkpoints_can_be_made_before_they_are_needed(lab: Lab) -> None:
    starter = lab.starter()
    starter.prepare([lab.spec(), lab.spec("nvme-sriov"), lab.spec(hotplug=False), lab.spec(memory=192)])
    assert lab.deeds == MADE * 2
    lab.start(starter, lab.spec())
    assert lab.deeds == ["clone"]


def test_a_base_machine_has_records_of_its_own(lab: Lab) -> None:
    lab.starter().source(lab.spec())
    assert (lab.folder / "run" / "base-q35-vmlinuz" / "console.log").is_file()


def made(lab: Lab) -> Checkpoint:
    source = lab.starter().source(lab.spec())
    assert source is not None
    return source


def truncated(checkpoint: Checkpoint) -> None:
    os.truncate(checkpoint.ram, 10)


def altered(checkpoint: Checkpoint) -> None:
    checkpoint.ram.write_bytes(RAM[::-1])


def stateless(checkpoint: Checkpoint) -> None:
    checkpoint.state.unlink()


@pytest.mark.parametrize("damage", [truncated, altered, stateless])
def test_a_damaged_checkpoint_is_made_again(lab: Lab, damage: Callable[[Checkpoint], None]) -> None:
    damage(made(lab))
    assert lab.deeds == MADE
    lab.start(lab.starter(), lab.spec())
    assert lab.deeds == [*MADE, "clone"]
    assert len(lab.kept) == 1


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.PROVISION])
def test_a_checkpoint_that_qemu_does_not_take_is_made_again_next_time(lab: Lab, stage: Stage) -> None:
    """But one whose clone is lost later is as good as before."""
    starter = lab.starter()
    lab.refuses = MachineLost("lost", stage=stage, detail="", complained=False)
    with pytest.raises(MachineLost) as caught:
        lab.start(starter, lab.spec())
    assert caught.value is lab.refuses
    assert lab.deeds == [*MADE, "clone"]
    lab.refuses = None
    lab.start(starter, lab.spec())
    assert lab.deeds == ([*MADE, "clone"] if stage is Stage.QEMU else ["clone"])


def lost(starter: Starter, spec: Spec) -> MachineLost:
    with pytest.raises(MachineLost) as caught:
        starter.source(spec)
    return caught.value


def test_a_lost_base_machine_is_told_again_to_all_without_another_boot(lab: Lab) -> None:
    lab.raises = LOST
    starter = lab.starter()
    told = [lost(starter, lab.spec(profile)) for profile in ("igb-sriov", "nvme-sriov", "igb-sriov")]
    assert lab.deeds == ["boot_base", "close"]
    assert len({id(one) for one in told}) == 3, "each is raised once, for what is raised again gathers tracebacks"
    assert {(str(one), one.stage, one.detail, one.complained) for one in told} == {
        (str(LOST), LOST.stage, LOST.detail, LOST.complained)
    }
    assert [one.__notes__ for one in told] == [[LOST.detail]] * 3
    assert lab.kept == []


def test_another_base_machine_or_run_is_tried_all_the_same(lab: Lab) -> None:
    lab.raises = LOST
    starter = lab.starter()
    lost(starter, lab.spec())
    lost(starter, lab.spec(memory=1024))
    assert lab.deeds == ["boot_base", "close"] * 2
    lab.raises = None
    starter.source(lab.spec(memory=768))
    lost(starter, lab.spec())
    assert lab.deeds == MADE
    lab.starter().source(lab.spec())
    assert lab.deeds == MADE


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, CouldNotRun("x"), LOST])
def test_a_base_machine_that_breaks_off_is_ended_and_leaves_no_half_checkpoint(
    lab: Lab, error: type[BaseException] | BaseException
) -> None:
    lab.raises = error() if isinstance(error, type) else error
    with pytest.raises(BaseException) as caught:
        lab.starter().source(lab.spec())
    assert caught.value is lab.raises
    assert (lab.deeds, lab.kept) == (["boot_base", "close"], [])
    lab.raises = None
    lab.start(lab.starter(), lab.spec())
    assert lab.deeds == [*MADE, "clone"]


def test_what_a_killed_process_left_of_a_checkpoint_is_none(lab: Lab) -> None:
    starter, spec = lab.starter(), lab.spec()
    half = lab.folder / "cache" / "checkpoints" / f".draft-{key_of(spec)}"
    half.mkdir(parents=True)
    (half / "ram").write_bytes(b"half")
    lab.start(starter, spec)
    assert lab.deeds == [*MADE, "clone"]
    assert lab.kept == [key_of(spec)]


@pytest.mark.parametrize(("free", "made"), [((1024 << 20) - 1, False), (1024 << 20, True)])
def test_without_room_for_all_of_its_memory_no_base_machine_is_booted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, free: int, *, made: bool
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    starter, spec = lab.starter(), lab.spec(memory=1024)
    if made:
        starter.source(spec)
    else:
        with pytest.raises(CouldNotRun) as caught:
            starter.source(spec)
        where = f"the cache {lab.folder / 'cache'}, which has 1023 MiB left"
        assert str(caught.value).startswith(f"a checkpoint needs 1024 MiB in {where}")
        assert not isinstance(caught.value, MachineLost)
    assert lab.deeds == (MADE if made else [])
    assert len(lab.kept) == made


def test_once_there_is_room_the_checkpoint_is_made(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = lab.starter()
    with monkeypatch.context() as full:
        full.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(CouldNotRun):
            starter.source(lab.spec())
    starter.source(lab.spec())
    assert lab.deeds == MADE


def test_the_checkpoints_used_last_are_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 2)
    keys = []
    for age, memory in ((3, 192), (2, 256), (1, 512)):
        made = lab.starter().source(lab.spec(memory=memory))
        os.utime(made.folder / "entry.json", (1e9 - age, 1e9 - age))
        keys.append(made.folder.name)
    assert lab.kept == sorted(keys[1:])


@pytest.mark.parametrize("error", [None, ZeroDivisionError, LOST], ids=["done", "test breaks off", "lost"])
def test_a_machine_lives_as_long_as_the_block_that_it_is_given_to(lab: Lab, error: Any) -> None:
    lab.raises = LOST if error is LOST else None
    try:
        with lab.starter().running(lab.spec(), lab.folder, ssh_port=4711) as machine:
            assert lab.done[-1] == ("clone", 77, 4711)
            assert cast("Any", machine).directory == lab.folder
            if error is not None:
                raise error
    except (ZeroDivisionError, MachineLost):
        assert error is not None
    assert lab.deeds == (["boot_base", "close", "close"] if error is LOST else [*MADE, "clone", "close"])


def test_a_machine_can_run_cold(lab: Lab) -> None:
    with lab.starter().running(lab.spec(), lab.folder, cold=True):
        pass
    assert lab.deeds == ["boot", "close"]


def test_what_is_to_be_plugged_into_a_kernel_that_would_not_see_it_is_there_at_power_on(lab: Lab) -> None:
    lab.sees_plugged = False
    starter = lab.starter()
    lab.start(starter, lab.spec("igb-sriov"))
    assert lab.deeds == [*MADE, "boot"]
    lab.start(starter, lab.spec("igb-sriov"))
    lab.start(starter, lab.spec("minimal"))
    assert lab.deeds == ["boot", "clone"]


@pytest.mark.parametrize("how", ["complaint", "console"])
def test_of_a_base_machine_that_complained_or_was_not_recorded_whole_no_clones_are_made(lab: Lab, how: str) -> None:
    lab.complaints = ("WARNING: at x",) if how == "complaint" else ()
    lab.broken = None if how == "complaint" else OSError(28, "No space left on device")
    starter = lab.starter()
    for _ in range(2):
        lab.start(starter, lab.spec())
    assert lab.deeds == [*MADE, "boot", "boot"]
    assert lab.kept == []
    lab.complaints, lab.broken = (), None
    lab.start(lab.starter(), lab.spec())
    assert lab.deeds == [*MADE, "clone"]


def test_a_base_machine_that_was_lost_for_no_fault_of_its_kernel_is_tried_again(lab: Lab) -> None:
    lab.raises = MachineLost("slow", stage=Stage.SSH, detail="", complained=False)
    starter = lab.starter()
    lost(starter, lab.spec())
    lab.raises = None
    lab.deeds  # noqa: B018 - forgotten
    lab.start(starter, lab.spec())
    assert lab.deeds == [*MADE, "clone"]
