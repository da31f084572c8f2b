# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose disk is full, without a QEMU."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.errors import CouldNotRun, Stage
from harness.machine.machine import Machine
from harness.machine.spec import Spec
from harness.provision import keys
from harness.provision.cache import Cache
from harness.qemu.process import Exit


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """Give what a machine is asked for before it is started."""
    parts = SimpleNamespace(keys=keys.provide(Cache(tmp_path / "cache")))
    return cast("Spec", SimpleNamespace(profile=SimpleNamespace(name="x"), parts=parts))


@contextlib.contextmanager
def ended(spec: Spec, directory: Path) -> Iterator[Machine]:
    """Make a machine that has written something to each of its records, and whose QEMU has ended."""
    machine = Machine(spec, directory)
    qemu, connection = socket.socketpair()
    qemu.sendall(b"Linux\n")
    qemu.close()
    machine.console.capture(connection)
    with pytest.raises(DeadlineExpired):
        machine.session.connect(1, Deadline(0.05, "x"))
    machine.health.on_exit(Exit(0, ""))
    yield machine
    machine.console.close()
    machine.qmp.close()
    machine.session.close()


def test_records_that_can_be_written_are_not_spoken_of(spec: Spec, tmp_path: Path) -> None:
    with ended(spec, tmp_path) as machine:
        machine.drain()
    assert all((tmp_path / name).read_text() for name in ("console.log", "qmp.jsonl", "ssh.log"))


@pytest.mark.parametrize("name", ["console.log", "qmp.jsonl", "ssh.log"])
def test_a_record_that_cannot_be_written_is_told(spec: Spec, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with (
        ended(spec, tmp_path) as machine,
        pytest.raises(CouldNotRun, match=r"^the run's records cannot be written: No space left on device$") as caught,
    ):
        machine.drain()
    assert caught.value.stage is Stage.QEMU
