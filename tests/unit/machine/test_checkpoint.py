# SPDX-License-Identifier: GPL-2.0-or-later
"""Saving and restoring a machine over QMP, with a QEMU that says of its migration what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.machine import checkpoint
from harness.machine.checkpoint import Checkpoint, NotMigrated
from harness.qemu.qmp import COMMAND_TIMEOUT, Event, Monitor, QmpLost

HERE = Checkpoint(Path("/cache/checkpoints/x"))
CAPABILITIES = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
SAVING = [
    ("stop", {}),
    ("migrate-set-capabilities", {"capabilities": CAPABILITIES}),
    ("migrate", {"uri": "file:/cache/checkpoints/x/state"}),
]
RESTORING = [
    ("migrate-set-parameters", {"announce-rounds": 0}),
    ("migrate-set-capabilities", {"capabilities": CAPABILITIES}),
    ("migrate-incoming", {"uri": "file:/cache/checkpoints/x/state"}),
]
Act = Callable[[Monitor, Checkpoint, Deadline], None]
BOTH = pytest.mark.parametrize(
    ("act", "asked"), [(checkpoint.save, SAVING), (checkpoint.restore, RESTORING)], ids=["save", "restore"]
)


class Qemu(Monitor):
    """Takes commands, and tells of a migration what it is to tell; one has been completed before."""

    def __init__(self, *statuses: str, **told: str) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.statuses = statuses
        self.told = told
        self._changed = threading.Condition()
        self._reason = ""
        self.events = [self.said("completed")]

    def said(self, status: str) -> Event:
        return Event("MIGRATION", 1.0, {"status": status})

    def command(self, command: str, arguments: Mapping[str, Any], *, timeout: float = COMMAND_TIMEOUT) -> Any:
        assert timeout == COMMAND_TIMEOUT
        self.asked.append((command, arguments))
        if command in ("migrate", "migrate-incoming"):
            self.events += [Event("STOP", 1.0, {}), *map(self.said, self.statuses)]
        return self.told if command == "query-migrate" else {}


def soon() -> Deadline:
    return Deadline(20, "a checkpoint")


def test_a_checkpoint_is_three_files_of_one_folder() -> None:
    names = [path.relative_to(HERE.folder).as_posix() for path in (HERE.ram, HERE.state, HERE.console)]
    assert names == ["ram", "state", "console.log"]


def test_a_machine_is_stopped_before_it_is_saved_and_stays_so() -> None:
    qemu = Qemu("setup", "active", "completed")
    checkpoint.save(qemu, HERE, soon())
    assert qemu.asked == SAVING


def test_a_machine_goes_on_once_all_of_its_state_is_read() -> None:
    qemu = Qemu("setup", "active", "completed")
    checkpoint.restore(qemu, HERE, soon())
    assert qemu.asked == [*RESTORING, ("cont", {})]


@BOTH
@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize(
    ("told", "reason"), [({"error-desc": "Unknown savevm section"}, "Unknown savevm section"), ({}, "no reason given")]
)
def test_a_migration_that_fails_is_told_with_qemus_reason_and_the_machine_does_not_go_on(
    act: Act, asked: list[Any], status: str, told: dict[str, str], reason: str
) -> None:
    qemu = Qemu("active", status, **told)
    with pytest.raises(NotMigrated) as caught:
        act(qemu, HERE, soon())
    assert str(caught.value) == f"QMP {asked[-1][0]} {status}: {reason}"
    assert qemu.asked == [*asked, ("query-migrate", {})]


@BOTH
@pytest.mark.parametrize("statuses", [(), ("setup", "active")])
def test_a_migration_that_does_not_end_is_given_up_in_time_and_an_earlier_one_does_not_count(
    act: Act, asked: list[Any], statuses: tuple[str, ...]
) -> None:
    qemu = Qemu(*statuses)
    with pytest.raises(DeadlineExpired, match=r"^a checkpoint: nothing within 0\.05 s$"):
        act(qemu, HERE, Deadline(0.05, "a checkpoint"))
    assert qemu.asked == asked


@BOTH
def test_a_qemu_that_ends_meanwhile_is_not_waited_for(act: Act, asked: list[Any]) -> None:
    qemu = Qemu("active")
    qemu.abort("QEMU ended")
    with pytest.raises(QmpLost, match=r"^QEMU ended$"):
        act(qemu, HERE, soon())
    assert qemu.asked == asked
