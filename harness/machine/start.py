# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine comes up: as a clone of a checkpoint of its base machine, or by a cold boot."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun, MachineLost, Stage
from harness.guest import arrival
from harness.machine import record
from harness.machine.checkpoint import Checkpoint
from harness.machine.machine import Machine
from harness.machine.spec import Spec
from harness.provision.cache import Cache, digest
from harness.qemu.options import argv
from harness.qemu.template import Wiring

_log = logging.getLogger(__name__)

_KIND = "checkpoints"
_FORMAT = 2
"""Part of a checkpoint's key: another number makes all that there are be made anew."""
_KEPT = 16
"""Checkpoints kept, the most recently used ones: each takes about 170 MB, and each new kernel makes some."""
_SAVE_TIMEOUT = 60.0


class Starter:
    """Brings machines up. `directory` gives the run's folder, for the records of base machines.

    A base machine that did not come up is not tried again: what was lost is told again to whoever asks.
    """

    def __init__(self, cache: Cache, directory: Callable[[], Path], timeout: float, *, cold: bool = False) -> None:
        self._cache = cache
        self._directory = directory
        self._timeout = timeout
        self._cold = cold
        self._lost: dict[str, MachineLost] = {}

    def start(self, machine: Machine, *, cold: bool = False, ssh_port: int = 0) -> None:
        """Bring a machine up, by a cold boot where that is asked for or nothing else works.

        Raises `CouldNotRun` with the stage at which it, or its base machine, was lost.
        """
        spec = machine.spec
        source = None if cold or self._cold or not spec.can_be_cloned else self.checkpoint(spec)
        if source is None or (spec.plugs() and not source.sees_plugged):
            machine.boot(self._timeout, ssh_port=ssh_port)
            return
        try:
            machine.clone(source, self._timeout, ssh_port=ssh_port)
        except MachineLost:
            if machine.health.stage is Stage.QEMU:  # whole, and yet not what QEMU takes
                self._cache.discard(_KIND, key_of(spec))
            raise

    def prepare(self, specs: Iterable[Spec]) -> None:
        """Make the checkpoints that these machines need, so that each starts at once; raises as `start`."""
        for spec in specs:
            if not self._cold and spec.can_be_cloned:
                self.checkpoint(spec)

    @contextmanager
    def running(self, spec: Spec, directory: Path, *, cold: bool = False, ssh_port: int = 0) -> Iterator[Machine]:
        """Bring a machine up, give it to the block, and end it; raises as `start`."""
        machine = Machine(spec, directory)
        try:
            self.start(machine, cold=cold, ssh_port=ssh_port)
            yield machine
        finally:
            machine.close()

    def checkpoint(self, spec: Spec) -> Checkpoint:
        """Give a checkpoint of the base machine, made by booting that where there is none that is whole."""
        key = key_of(spec)
        if key in self._lost:
            lost = self._lost[key]
            raise MachineLost(str(lost), stage=lost.stage, detail=lost.detail, complained=lost.complained)
        try:
            entry = self._cache.entry(_KIND, key, f"base machine {_name(spec)}", lambda draft: self._make(spec, draft))
        except MachineLost as lost:
            self._lost[key] = lost
            raise
        return Checkpoint(entry.path, sees_plugged=bool(entry.about["sees_plugged"]))

    def _make(self, spec: Spec, draft: Path) -> dict[str, Any]:
        made = Checkpoint(draft)
        self._cache.keep(_KIND, _KEPT - 1)
        self._check_room(spec)
        machine = Machine(spec, record.folder_for(self._directory(), f"base-{_name(spec)}"))
        with self._cache.progress.task(f"base machine {_name(spec)}: boot, for a checkpoint"):
            try:
                machine.boot_base(made.ram, self._timeout)
                sees_plugged = arrival.is_seen(machine.guest)
                machine.save(made, _SAVE_TIMEOUT)
            finally:
                machine.close()
        with record.told(machine.directory):
            if machine.console.broken is not None:
                raise machine.console.broken
            said = (machine.directory / "console.log").read_bytes()
        made.console.write_bytes(said)
        return {**machine.spec.about(), "sees_plugged": sees_plugged}

    def _check_room(self, spec: Spec) -> None:
        needed = int(spec.parameters["memory"]) << 20
        free = shutil.disk_usage(self._cache.root).free
        if free < needed:
            raise CouldNotRun(
                f"a checkpoint needs {needed >> 20} MiB in the cache {self._cache.root}, which has {free >> 20} "
                "MiB left: try `harness cache prune`, or boot every machine cold (--cold)"
            )


def key_of(spec: Spec) -> str:
    """Give the key of a base machine's checkpoint: a digest of all that shapes it."""
    parts = spec.parts
    line = argv(spec.base_line(Wiring.by_hand(), Path("ram")))
    return digest(_FORMAT, line, parts.qemu.identity, parts.kernel.content, _host_cpu() if parts.accel.is_kvm else "")


def _name(spec: Spec) -> str:
    return f"{spec.profile.base}-{spec.parts.kernel.name.rpartition('/')[2]}"


@functools.cache
def _host_cpu() -> str:
    """Say which processor a guest under KVM sees: its state cannot be loaded on another."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if line.startswith(("model name", "flags", "microcode")))
