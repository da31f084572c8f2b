# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a kernel did not boot: asked of the reference kernel, on the same QEMU and base machine."""

from __future__ import annotations

import functools
from pathlib import Path

from harness.errors import CouldNotRun, GuestFailure, HarnessError, Stage
from harness.machine.machine import Spec, booted
from harness.machine.parts import Store
from harness.provision.kernel import REFERENCE


class KernelDoesNotBoot(GuestFailure):
    """A kernel was lost where the reference kernel is not: the kernel is wrong."""


class Reference:
    """Boots the reference kernel at most once per base machine, and remembers whether it came up."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._boots = functools.cache(self._try)

    def judged(self, lost: CouldNotRun, spec: Spec) -> CouldNotRun | KernelDoesNotBoot:
        """Give the exception that a boot which was `lost` deserves: MISS, or FAIL where the kernel is to blame."""
        if lost.stage is not Stage.KERNEL or spec.parts.kernel.is_reference or not self._boots(spec.profile.base):
            return lost
        blamed = KernelDoesNotBoot(f"{lost}; the reference kernel {REFERENCE} boots on the same machine")
        blamed.add_note(lost.detail)
        blamed.__cause__ = lost
        return blamed

    def _try(self, base: str) -> bool:
        del base  # every profile of today stands on the base machine of `minimal`
        try:
            profile = self._store.library.get("minimal")
            parts = self._store.with_kernel(self._store.parts(), REFERENCE)
            spec = Spec(profile, profile.resolve({}), parts, self._store.library.folders)
            directory = self._directory / "reference-kernel"
            directory.mkdir(parents=True, exist_ok=True)
            with booted(spec, directory, self._store.settings.boot_timeout):
                return True
        except HarnessError:
            return False
