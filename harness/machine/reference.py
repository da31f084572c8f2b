# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a kernel did not boot: asked of the reference kernel, on the same machine."""

from __future__ import annotations

from pathlib import Path

from harness.errors import CouldNotRun, GuestFailure, HarnessError, Stage
from harness.machine import record
from harness.machine.machine import Spec, booted
from harness.machine.parts import Store
from harness.provision.kernel import REFERENCE


class KernelDoesNotBoot(GuestFailure):
    """A kernel was lost where the reference kernel is not: the kernel is wrong."""


class Reference:
    """Boots the reference kernel at most once per machine, and remembers whether it came up."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._boots: dict[tuple[str, str], bool] = {}

    def judged(self, lost: CouldNotRun, spec: Spec, *, complained: bool = False) -> CouldNotRun | KernelDoesNotBoot:
        """Give the exception that a boot which was `lost` deserves: MISS, or FAIL where the kernel is to blame.

        That is so at stage kernel, and where its kernel `complained` on the console (a driver that panics in its
        probe is lost at stage init), if the reference kernel boots with the same profile and parameters.
        """
        suspect = lost.stage is Stage.KERNEL or (complained and lost.stage in (Stage.INIT, Stage.SSH))
        if not suspect or spec.parts.kernel.is_reference or not self._boots_with(spec):
            return lost
        blamed = KernelDoesNotBoot(f"{lost}; the reference kernel {REFERENCE} boots on the same machine")
        blamed.add_note(lost.detail)
        blamed.__cause__ = lost
        return blamed

    def _boots_with(self, spec: Spec) -> bool:
        machine = (spec.profile.name, repr(sorted(spec.parameters.items())))
        if machine not in self._boots:
            self._boots[machine] = self._try(spec)
        return self._boots[machine]

    def _try(self, spec: Spec) -> bool:
        try:
            parts = self._store.with_kernel(spec.parts, REFERENCE)
            parts.check(spec.profile)
            directory = record.folder_for(self._directory, f"reference-{spec.profile.name}")
            same = Spec(spec.profile, spec.parameters, parts, spec.folders)
            with booted(same, directory, self._store.settings.boot_timeout):
                return True
        except HarnessError:
            return False
