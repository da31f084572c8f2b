# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine comes up: as a clone of a checkpoint of its base machine, or by a cold boot."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun, MachineLost, Stage
from harness.guest import arrival
from harness.machine import record
from harness.machine.attempts import brought_up
from harness.machine.checkpoint import Checkpoint
from harness.machine.machine import Machine
from harness.machine.spec import Spec
from harness.provision.cache import Cache, digest, explained
from harness.qemu.options import argv
from harness.qemu.template import Wiring

_KIND = "checkpoints"
_FORMAT = 3
"""Part of a checkpoint's key: another number makes all that there are be made anew."""
_KEPT = 16
"""Checkpoints kept, the most recently used ones: each takes about 170 MB, and each new kernel makes some."""
_SAVE_TIMEOUT = 60.0

_ComingUp = Callable[[Machine], None]


class NotToBeCloned(Exception):
    """A base machine is up, but no clones are to be made of it; the text says why."""


class Starter:
    """Brings machines up. `directory` gives the run's folder, for the records of base machines.

    A base machine whose kernel is to blame that it did not come up is not tried again: what was lost is told again to
    whoever asks. `base` is the base machine that is coming up now, if any.
    """

    def __init__(self, cache: Cache, directory: Callable[[], Path], timeout: float, *, cold: bool = False) -> None:
        self._cache = cache
        self._directory = directory
        self._timeout = timeout
        self._cold = cold
        self._lost: dict[str, MachineLost] = {}
        self._not_cloned: set[str] = set()
        self.base: Machine | None = None

    def start(self, machine: Machine, *, cold: bool = False, ssh_port: int = 0) -> None:
        """Bring a machine up, by a cold boot where that is asked for or nothing else works.

        Raises `CouldNotRun` with the stage at which it, or its base machine, was lost.
        """
        source = None if cold or self._cold else self.source(machine.spec)
        if source is None:
            machine.boot(self._timeout, ssh_port=ssh_port)
            return
        try:
            machine.clone(source, self._timeout, ssh_port=ssh_port)
        except OSError as error:
            raise explained(error, self._cache.root) from error
        except MachineLost:
            if machine.refuses_checkpoint:  # though it is whole: the next one is made anew
                self._cache.discard(_KIND, key_of(machine.spec))
            raise

    def prepare(self, specs: Iterable[Spec]) -> None:
        """Make the checkpoints that these machines need, so that each starts at once; raises as `start`."""
        for spec in specs:
            if not self._cold:
                self.source(spec)

    @contextmanager
    def running(self, spec: Spec, directory: Path, *, cold: bool = False, ssh_port: int = 0) -> Iterator[Machine]:
        """Bring a machine up, give it to the block, and end it; raises as `start`."""
        with ExitStack() as stack:
            yield self.bring_up(stack, spec, directory, cold=cold, ssh_port=ssh_port)

    def bring_up(
        self, stack: ExitStack, spec: Spec, directory: Path, *,
        cold: bool = False, ssh_port: int = 0, coming_up: _ComingUp = lambda _: None,
    ) -> Machine:  # fmt: skip
        """Bring up a machine that ends with the stack; raises as `start`. `coming_up` is told of each attempt."""

        def start(machine: Machine) -> None:
            coming_up(machine)
            self.start(machine, cold=cold, ssh_port=ssh_port)

        return brought_up(stack, spec, directory, start)

    def source(self, spec: Spec) -> Checkpoint | None:
        """Give the checkpoint to clone a machine from; None where it must be booted. Raises as `start`."""
        if not spec.can_be_cloned:
            return None
        plugs = spec.plugs()  # what cannot be plugged is refused before anything is booted
        key = key_of(spec)
        if key in self._not_cloned:
            return None
        if key in self._lost:
            lost = self._lost[key]
            raise MachineLost(str(lost), stage=lost.stage, detail=lost.detail, complained=lost.complained)
        try:
            entry = self._cache.entry(_KIND, key, f"base machine {_name(spec)}", lambda draft: self._make(spec, draft))
        except NotToBeCloned as reason:
            self._cache.progress.note(f"no clones of base machine {_name(spec)}: {reason}; machines are booted instead")
            self._not_cloned.add(key)
            return None
        except MachineLost as lost:
            if lost.complained or lost.stage in (Stage.KERNEL, Stage.INIT):
                self._lost[key] = lost
            raise
        return Checkpoint(entry.path) if entry.about["sees_plugged"] or not plugs else None

    def _make(self, spec: Spec, draft: Path) -> Mapping[str, Any]:
        self._cache.keep(_KIND, _KEPT - 1)
        self._check_room(spec)
        directory = record.folder_for(self._directory(), f"base-{_name(spec)}")
        try:
            with self._cache.progress.task(f"base machine {_name(spec)}: boot, for a checkpoint"):
                return make(spec, directory, Checkpoint(draft), self._timeout, self._boots)
        finally:
            self.base = None

    def _boots(self, base: Machine) -> None:
        self.base = base

    def _check_room(self, spec: Spec) -> None:
        needed = int(spec.parameters["memory"]) << 20
        free = shutil.disk_usage(self._cache.root).free
        if free < needed:
            raise CouldNotRun(
                f"a checkpoint needs {needed >> 20} MiB in the cache {self._cache.root}, which has {free >> 20} "
                "MiB left: try `harness cache prune`, or boot every machine cold (--cold)"
            )


def make(
    spec: Spec, directory: Path, to: Checkpoint, timeout: float, coming_up: _ComingUp = lambda _: None
) -> Mapping[str, Any]:
    """Boot a base machine, save it and end it; gives what is to be known of it. `to` is an empty folder.

    Raises `MachineLost`, and `NotToBeCloned` for one of which a clone would not be what a boot is.
    """

    def boot(machine: Machine) -> None:
        coming_up(machine)
        to.ram.unlink(missing_ok=True)  # another attempt's
        machine.boot_base(to.ram, timeout)

    with ExitStack() as stack:
        machine = brought_up(stack, spec, directory, boot)
        try:
            sees_plugged = arrival.is_seen(machine.guest)
            machine.save(to, _SAVE_TIMEOUT)
        except MachineLost as lost:
            lost.add_note("perhaps a device of its cannot be saved: then give the profile hotplug = false")
            raise
    if machine.console.reports():
        # Perhaps by chance, on a busy host: it would count against every clone that is ever made of it.
        raise NotToBeCloned(f"its kernel reported {machine.console.reports()[0].title}")
    if machine.console.is_cut or machine.console.broken is not None:
        raise NotToBeCloned("its console could not be kept whole")
    with record.told(directory):
        said = (directory / "console.log").read_bytes()
    to.console.write_bytes(said)
    return {**machine.about(), "sees_plugged": sees_plugged}


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
