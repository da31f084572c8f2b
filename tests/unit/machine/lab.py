# SPDX-License-Identifier: GPL-2.0-or-later
"""A place where machines are started that are only files, by a real starter over a real cache."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from harness.errors import MachineLost, Stage
from harness.machine.checkpoint import Checkpoint
from harness.machine.machine import Machine
from harness.machine.parts import Parts
from harness.machine.spec import Spec
from harness.machine.start import Starter
from harness.provision.cache import Cache
from harness.provision.kernel import Kernel
from harness.provision.keys import Keys
from harness.provision.qemu import Qemu
from harness.qemu.accel import Choice
from harness.qemu.library import Library

HOTPLUG = {"ACPI": "y", "HOTPLUG_PCI": "y", "HOTPLUG_PCI_ACPI": "y", "VMGENID": "y"}
RAM = b"ram" * 1000
LOST = MachineLost("machine lost at stage kernel: x", stage=Stage.KERNEL, detail="  | Linux version", complained=True)


@dataclass
class Fake:
    """A machine that notes what it is told to do, and leaves the files that a real one would."""

    lab: Lab
    spec: Spec
    directory: Path
    milestones: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.health = SimpleNamespace(mistimed="")
        self.loss: str | None = None
        self.closed = False

    def boot(self, timeout: float, *, ssh_port: int = 0) -> None:
        self.lab.done.append(("boot", timeout, ssh_port))
        self._time()

    def _time(self) -> None:
        """Be one of those whose kernel misjudges its timer, as long as there are to be any."""
        if self.lab.mistimed == 0:
            return
        self.lab.mistimed -= 1
        self.health.mistimed = "its kernel misjudged"
        self.loss = self.lab.loss or self.health.mistimed
        for name in ("argv", "console.log", "qmp.jsonl", "device-siov0.jsonl"):
            (self.directory / name).write_text(f"mistimed, {self.lab.mistimed} to come\n")
        raise MachineLost(self.loss, stage=Stage.KERNEL, detail="console", complained=bool(self.lab.complaints))

    def clone(self, source: Checkpoint, timeout: float, *, ssh_port: int = 0) -> None:
        assert source.ram.read_bytes() == RAM
        assert source.state.read_bytes() == b"state"
        self.lab.done.append(("clone", timeout, ssh_port))
        self.lab.cloned.append(source)
        if self.lab.refuses is not None:
            raise self.lab.refuses

    @property
    def guest(self) -> Any:
        slots = SimpleNamespace(data=b"0\x000-2" if self.lab.sees_plugged else b"")
        return SimpleNamespace(agent=SimpleNamespace(call=lambda _: slots))

    @property
    def console(self) -> Any:
        said = [SimpleNamespace(title=title) for title in self.lab.complaints]
        return SimpleNamespace(broken=self.lab.broken, is_cut=False, reports=lambda: said)

    @property
    def refuses_checkpoint(self) -> bool:
        return self.lab.refuses is not None and self.lab.refuses.stage is Stage.QEMU

    def about(self) -> dict[str, Any]:
        return {}

    def boot_base(self, ram: Path, timeout: float) -> None:
        self.lab.done.append(("boot_base", timeout, 0))
        with ram.open("xb") as memory:
            memory.write(RAM)
        self._time()
        if self.lab.raises is not None:
            raise self.lab.raises
        (self.directory / "console.log").write_bytes(b"Linux\n")

    def save(self, to: Checkpoint, timeout: float) -> None:
        assert timeout > 0
        self.lab.done.append(("save", 0, 0))
        to.state.write_bytes(b"state")

    def close(self) -> None:
        if not self.closed:
            self.lab.done.append(("close", 0, 0))
        self.closed = True


@dataclass
class Lab:
    """Where machines are started: a cache, a run's folder, and what becomes of base machines and of clones."""

    folder: Path
    raises: BaseException | None = None
    refuses: MachineLost | None = None
    sees_plugged: bool = True
    mistimed: int = 0
    loss: str = ""
    broken: OSError | None = None
    complaints: tuple[str, ...] = ()
    done: list[tuple[str, float, int]] = field(default_factory=list)
    cloned: list[Checkpoint] = field(default_factory=list)
    caches: list[Cache] = field(default_factory=list)

    def starter(self, *, cold: bool = False) -> Starter:
        """Give a starter as of another process, those before having ended."""
        for cache in self.caches:
            cache.release()
        self.caches.append(Cache(self.folder / "cache"))
        return Starter(self.caches[-1], lambda: self.folder / "run", 77, cold=cold)

    def start(self, starter: Starter, spec: Spec, **how: Any) -> None:
        starter.start(cast("Machine", Fake(self, spec, self.folder)), **how)

    @property
    def deeds(self) -> list[str]:
        """What was done since this was last asked."""
        done, self.done = self.done, []
        return [deed for deed, _, _ in done]

    @property
    def kept(self) -> list[str]:
        """The checkpoints, whole or half."""
        return sorted(os.listdir(self.folder / "cache" / "checkpoints"))  # noqa: PTH208

    def spec(
        self, profile: str = "igb-sriov", *, kernel: str = "kernel", config: dict[str, str] | None = None,
        hotplug: bool = True, accel: Any = "tcg", **parameters: Any,
    ) -> Spec:  # fmt: skip
        library = Library()
        found = replace(library.get(profile), hotplug=hotplug)
        parts = Parts(
            Qemu(self.folder / "qemu", "10.1.2", "", {}), Choice(accel, ""),
            Kernel("./my/vmlinuz", Path("/k"), "6.12.1", None, config or HOTPLUG, kernel, ""),
            Path("/i"), cast("Keys", None),
        )  # fmt: skip
        return Spec(found, found.resolve(parameters), parts, library.folders)


MADE = ["boot_base", "save", "close"]
