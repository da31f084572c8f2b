# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels of a validation: every step in every configuration, each built once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.errors import UsageError
from harness.machine.parts import Store
from harness.provision.kbuild import build as building
from harness.provision.kbuild import source
from harness.provision.kbuild.fragments import WishesDropped
from harness.provision.kbuild.make import DoesNotBuild
from harness.provision.kbuild.series import DoesNotApply
from harness.report.validation import Built
from harness.validate.ledger import Ledger
from harness.validate.order import Order, Target
from harness.validate.steps import Step

_KIND = "build"


class Builds:
    """Builds what the ledger does not know, and gives what became of each."""

    def __init__(self, store: Store, order: Order, ledger: Ledger, tell: Callable[[str], None]) -> None:
        self._store, self._order, self._ledger, self._tell = store, order, ledger, tell
        self._found: dict[tuple[int, str], Built] = {}

    def make(self) -> None:
        """Build every step in every configuration. Raises `HarnessError` for what is no patch's fault."""
        for target in self._order.targets:
            before: list[str] | None = None
            for step in self._order.series.steps:
                warnings = self._make_one(step, target, before)
                before = before if warnings is None else warnings

    def of(self, step: Step, target: Target) -> Built:
        """Give what became of a build."""
        return self._found[step.number, target.name]

    def bootable(self) -> list[tuple[Step, Target]]:
        """Give the steps that built in configurations that are tested, in their order."""
        return [
            (step, target)
            for step in self._order.series.steps
            for target in self._order.targets
            if target.boots and not self.of(step, target).error
        ]

    def unseen(self, step: Step) -> list[str]:
        """Give the files that a step's patch touches, and of which no build of it made anything."""
        told = [self._ledger.found(_KIND, self._key(step, target)) for target in self._order.targets]
        left = [{*one["unseen"]} for one in told if one is not None and not one["error"]]
        return sorted({*step.files} & set.intersection(*left)) if left else []

    def _make_one(self, step: Step, target: Target, before: list[str] | None) -> list[str] | None:
        """Build a step, or find it built; gives all its warnings, None where it does not build."""
        key = self._key(step, target)
        name = f"v-{key}"
        known = self._ledger.found(_KIND, key)
        if known is None or not (known["error"] or not target.boots or self._is_there(name, known["content"])):
            known = self._build(step, target, name)
            self._ledger.note(_KIND, key, known)
        warnings: list[str] | None = None if known["error"] else known["warnings"]
        new = [] if before is None or warnings is None else sorted({*warnings} - {*before})
        self._found[step.number, target.name] = Built(
            config=target.name, error=known["error"], applies=known.get("applies", True), kernel=name,
            content=known["content"], warnings=new, seconds=known["seconds"],
        )  # fmt: skip
        return warnings

    def _is_there(self, name: str, content: str) -> bool:
        entry = building.found(self._store.cache, name)
        return entry is not None and entry.about["content"] == content

    def _build(self, step: Step, target: Target, name: str) -> dict[str, Any]:
        cache = self._store.cache
        order = step.built_as(target.fragments, target.arch)
        # Where the source never changes, a kernel of that name is the one, if it is there.
        make = building.provide if source.is_fixed(cache, order.source) else building.build
        started = time.monotonic()
        try:
            about = make(cache, self._store.apt, name, order, jobs=self._order.jobs).about
        except (DoesNotBuild, WishesDropped, UsageError) as error:
            if step.number == 0 and not isinstance(error, DoesNotBuild):
                raise  # no patch's fault: a tool is missing, a fragment is wrong
            self._tell(f"{step.title}: {target.name}: {error}")
            return {
                "error": str(error), "applies": not isinstance(error, DoesNotApply), "content": "", "warnings": [],
                "unseen": [], "seconds": _since(started),
            }  # fmt: skip
        self._tell(f"{step.title}: {target.name}: built in {_since(started):.0f} s")
        if not target.boots:
            cache.release()
            cache.discard(building.KIND, name)  # it was only compiled to see whether it can be
        return {
            "error": "", "content": about["content"], "warnings": about.get("warnings", []),
            "unseen": about.get("unseen", []), "seconds": _since(started),
        }  # fmt: skip

    def _key(self, step: Step, target: Target) -> str:
        # A tree that may change is built from anew for each series, and must not wait for another's kernel to be free.
        is_fixed = source.is_fixed(self._store.cache, step.order.source)
        return f"{step.key if is_fixed else self._order.series.key}-{step.number}-{target.name}"


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)
