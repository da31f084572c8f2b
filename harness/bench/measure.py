# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that `harness bench` measures, in one run, so that figures of one machine and hour stand side by side."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.bench import clones, devices, suite
from harness.bench.figures import Figure, Results, ratio, yardstick
from harness.machine.spec import Spec
from harness.machine.start import Starter

_PLUGGED = {"plug_igb_s": "igb-sriov", "plug_nvme_s": "nvme-sriov", "plug_virtio_s": "virtio-sriov"}
_TOGETHER = 4
"""Clones that run at the same time where that is measured."""
_SAVES = 3
_YARDSTICKS = 9
"""How often the machine's speed is taken, before all else and again after it."""


@dataclass(frozen=True)
class Plan:
    """What to measure: which machines, how often, and where their records go."""

    spec: Callable[[str], Spec]
    starter: Starter
    directory: Path
    count: int
    clones: int


class Measurement:
    """One run of all measurements. `wrong` says what went wrong with clones, in lines."""

    def __init__(self, plan: Plan, boot_timeout: float, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._boot_timeout = boot_timeout
        self._tell = tell
        self._figures: dict[str, Figure] = {}
        self.wrong: list[str] = []

    def all(self, suite: Sequence[str] | None) -> Results:
        """Measure. With `suite`, flags for `harness test`, the SR-IOV suite is run too, in two ways."""
        plan, minimal = self._plan, self._plan.spec("minimal")
        plan.starter.prepare([minimal])
        pace = [yardstick() for _ in range(_YARDSTICKS)]
        cold = clones.starts(plan.starter, minimal, plan.directory, plan.count, cold=True)
        self._take("cold_boot_to_ssh_s", "s", cold)
        self._take("checkpoint_save_s", "s", clones.saves(minimal, plan.directory, _SAVES, self._boot_timeout))
        self._take(
            "restore_to_ssh_s", "s", clones.starts(plan.starter, minimal, plan.directory, plan.count, cold=False)
        )
        measured = self._figures
        over = ratio(measured["cold_boot_to_ssh_s"].values, measured["restore_to_ssh_s"].values)
        self._figures["ratio_cold_over_restore"] = over
        for name, profile in _PLUGGED.items():
            self._take(name, "s", clones.plugs(plan.starter, plan.spec(profile), plan.directory, plan.count))
        self.devices()
        self._take("clone_pss_mb", "MB", clones.memory(plan.starter, minimal, plan.directory, _TOGETHER))
        self._crowd(minimal)
        if suite is not None:
            self._suite(suite)
        pace += [yardstick() for _ in range(_YARDSTICKS)]
        return Results(about=_about(minimal), yardstick_s=statistics.median(pace), figures=self._figures)

    def devices(self) -> dict[str, Figure]:
        """Measure what Python devices cost, and give all figures that there are."""
        plan, minimal = self._plan, self._plan.spec("minimal")
        self._take("plug_siov_s", "s", devices.arrivals(plan.starter, minimal, plan.directory, plan.count))
        paces = list(devices.pace(minimal.parts.qemu.path, plan.count))
        self._take("config_reads_per_s", "per s", (pace.config_reads_per_s for pace in paces), larger_is_better=True)
        self._take("bar_read_us", "us", (1e6 * statistics.median(pace.bar_reads) for pace in paces))
        return self._figures

    def _take(self, name: str, unit: str, values: Iterable[float], *, larger_is_better: bool = False) -> None:
        taken = []
        for value in values:
            taken.append(value)
            self._tell(f"{name}: {value:.3f} {unit}" if value < 1000 else f"{name}: {value:.0f} {unit}")
        self._figures[name] = Figure(unit=unit, values=taken, larger_is_better=larger_is_better)

    def _crowd(self, spec: Spec) -> None:
        done = 0

        def told() -> None:
            nonlocal done
            done += 1
            if done % 10 == 0:
                self._tell(f"clones: {done} of {self._plan.clones}")

        plan = self._plan
        crowd = clones.crowd(plan.starter, spec, plan.directory, plan.clones, _TOGETHER, told)
        rate = crowd.count / crowd.seconds * 60
        self._figures["clones_per_minute"] = Figure(unit="per min", values=[rate], larger_is_better=True)
        self.wrong += [f"a clone was lost: {reason}" for reason in crowd.lost]
        for found, what in (
            (crowd.changed, "the checkpoint's RAM file was changed"),
            (crowd.processes_left, f"{crowd.processes_left} processes were left of the clones"),
            (crowd.files_left, f"{crowd.files_left} folders of sockets were left of the clones"),
        ):
            self.wrong += [what] if found else []

    def _suite(self, flags: Sequence[str]) -> None:
        runs = {}
        for name, cold in (("suite_s", False), ("suite_cold_s", True)):
            runs[name] = suite.run(flags, cold=cold)
            self._take(name, "s", [runs[name].seconds])
        cloned, booted = runs["suite_s"], runs["suite_cold_s"]
        self._figures["ratio_suite_cold_over_clones"] = ratio([booted.seconds], [cloned.seconds])
        self.wrong += [
            f"{test}: {cloned.outcomes.get(test)} with clones, {booted.outcomes.get(test)} cold"
            for test in sorted(cloned.outcomes.keys() | booted.outcomes.keys())
            if cloned.outcomes.get(test) != booted.outcomes.get(test)
        ]


def _about(spec: Spec) -> dict[str, object]:
    return {**spec.about(), "cpu": _cpu(), "cores": os.cpu_count(), "host_kernel": platform.release()}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
