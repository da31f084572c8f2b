# SPDX-License-Identifier: GPL-2.0-or-later
"""What a validation is asked for: which series, in which configurations, with which tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.provision.kbuild.arch import Arch
from harness.validate.steps import Series


@dataclass(frozen=True)
class Target:
    """A configuration that every step is built in: fragments beyond the base, or another architecture, or both."""

    fragments: tuple[str, ...] = ()
    arch: Arch | None = None
    boots: bool = True
    """Whether its kernels are tested, and not only compiled."""

    @property
    def name(self) -> str:
        """What it is called in reports: `base`, `siov+debug`, `powerpc`."""
        words = [*([self.arch.name] if self.arch else []), *(Path(one).stem for one in self.fragments)]
        return "+".join(words) or "base"


@dataclass(frozen=True)
class Order:
    """A validation; `title` and `source` are for its reports, `options` go to every `harness test`."""

    series: Series
    title: str
    source: str
    targets: Sequence[Target]
    tests: Sequence[str]
    options: tuple[str, ...] = ()
    selection: tuple[str, ...] = ()
    """Further options, of all cells but those that only boot."""
    guests: int = 1
    scheduler: str | None = None
    jobs: int = 0
