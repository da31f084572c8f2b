# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a kernel did not boot: asked of the reference kernel, on the same machine."""

from __future__ import annotations

from pathlib import Path

from harness.errors import GuestFailure, HarnessError, MachineLost, Stage
from harness.machine import record
from harness.machine.parts import Store
from harness.machine.spec import Spec
from harness.machine.start import Starter
from harness.provision.kernel import REFERENCE


class KernelDoesNotBoot(GuestFailure):
    """A kernel was lost where the reference kernel is not: the kernel is wrong."""


class Reference:
    """Starts the reference kernel at most once per machine, and remembers whether it came up."""

    def __init__(self, store: Store, directory: Path, starter: Starter) -> None:
        self._store = store
        self._directory = directory
        self._starter = starter
        self._boots: dict[tuple[str, str, bool], bool] = {}

    def judged(self, lost: MachineLost, spec: Spec, *, cold: bool) -> MachineLost | KernelDoesNotBoot:
        """Give the exception that a machine which was `lost` deserves: MISS, or FAIL where the kernel is to blame.

        That is so at stage kernel, at stage plug, and where its kernel complained on the console (a driver that
        panics in its probe is lost at stage init), if the reference kernel comes up on the same machine, in the same
        way.
        """
        suspect = lost.stage in (Stage.KERNEL, Stage.PLUG) or (
            lost.complained and lost.stage in (Stage.INIT, Stage.SSH)
        )
        if not suspect or spec.parts.kernel.is_reference or not self._comes_up_with(spec, cold=cold):
            return lost
        blamed = KernelDoesNotBoot(f"{lost}; the reference kernel {REFERENCE} boots on the same machine")
        blamed.add_note(lost.detail)
        blamed.__cause__ = lost
        return blamed

    def _comes_up_with(self, spec: Spec, *, cold: bool) -> bool:
        machine = (spec.profile.name, repr(sorted(spec.parameters.items())), cold)
        if machine not in self._boots:
            self._boots[machine] = self._try(spec, cold=cold)
        return self._boots[machine]

    def _try(self, spec: Spec, *, cold: bool) -> bool:
        try:
            parts = self._store.with_kernel(spec.parts, REFERENCE)
            parts.check(spec.profile)
            directory = record.folder_for(self._directory, f"reference-{spec.profile.name}")
            same = Spec(spec.profile, spec.parameters, parts, spec.folders)
            with self._starter.running(same, directory, cold=cold):
                return True
        except HarnessError:
            return False
