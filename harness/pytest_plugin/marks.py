# SPDX-License-Identifier: GPL-2.0-or-later
"""What the marks of a test say, checked before any test runs."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from harness.guest.reports import ReportKind
from harness.judge import Declared

MARKS = (
    "machine(profile, **parameters): boot this machine for the test; several marks make several cases",
    "cold: boot the test's machines, instead of cloning a checkpoint",
    "expects_report(kind, match=''): the test makes the kernel report this (see harness.guest.reports.ReportKind)",
    "test_timeout(seconds): time for this test, instead of --test-timeout",
    "row(*names): the rows of docs/catalogue.md that the test shows, such as SR-27",
    "needs_kernel(*options): the test is about what these kernel options bring, such as PCI_SIOV; elsewhere it skips",
    "needs_overlay: the test lays an overlay over configuration space; on a QEMU without iov-overlay it skips",
    "known_bug(reason, kernels=('*',), match=None): known to FAIL on these kernels; a hang, panic or report must match",
)


_ROW = re.compile(r"[A-Z]{2}-[0-9]{2,3}")
_OPTION = re.compile(r"(?!CONFIG_)[A-Z0-9_]+")


@dataclass(frozen=True)
class KnownBug:
    """A bug that a test is known to show: on which kernels, and by which words where its failure is no plain one."""

    reason: str
    kernels: tuple[str, ...] = ("*",)
    match: re.Pattern[str] | None = None

    @classmethod
    def of(cls, mark: pytest.Mark) -> KnownBug:
        """Read a `known_bug` mark. Raises `TypeError` or `re.error` for one that makes no sense."""

        def read(reason: str, *, kernels: Iterable[str] = ("*",), match: str | None = None) -> KnownBug:
            if isinstance(kernels, str):
                raise TypeError("kernels must be several names, as in kernels=(...,)")
            return cls(str(reason), tuple(kernels), None if match is None else re.compile(match))

        return read(*mark.args, **mark.kwargs)

    def holds_on(self, names: Iterable[str]) -> bool:
        """Tell whether a kernel that goes by any of these names has it."""
        return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in self.kernels)


def declared(mark: pytest.Mark) -> Declared:
    """Read an `expects_report` mark. Raises `TypeError`, `ValueError` or `re.error` for one that makes no sense."""

    def read(kind: str, *, match: str = "") -> Declared:
        re.compile(match)
        return Declared(ReportKind(kind), match)

    return read(*mark.args, **mark.kwargs)


def seconds(mark: pytest.Mark) -> float:
    """Read a `test_timeout` mark; raises `TypeError` or `ValueError`."""

    def read(seconds: float) -> float:
        return float(seconds)

    return read(*mark.args, **mark.kwargs)


def rows(item: pytest.Item) -> tuple[str, ...]:
    """Give the rows of the catalogue that a test shows, in the order of their numbers."""
    names = {name for mark in item.iter_markers("row") for name in _row(mark)}
    return tuple(sorted(names, key=lambda name: (name[:2], int(name[3:]))))


def _row(mark: pytest.Mark) -> tuple[str, ...]:
    if mark.kwargs or not mark.args or not all(isinstance(one, str) and _ROW.fullmatch(one) for one in mark.args):
        raise ValueError("rows go by names such as SR-27")
    return mark.args


def options(item: pytest.Item) -> frozenset[str]:
    """Give the kernel options that a test is about."""
    return frozenset(name for mark in item.iter_markers("needs_kernel") for name in _options(mark))


def _options(mark: pytest.Mark) -> tuple[str, ...]:
    if mark.kwargs or not mark.args or not all(isinstance(one, str) and _OPTION.fullmatch(one) for one in mark.args):
        raise ValueError("kernel options go by names such as PCI_SIOV, without CONFIG_")
    return mark.args


def _machine(mark: pytest.Mark) -> str:
    def read(profile: str, /, **_parameters: Any) -> str:
        return profile.strip()

    return read(*mark.args, **mark.kwargs)


_READERS: dict[str, Callable[[pytest.Mark], object]] = {
    "machine": _machine, "expects_report": declared, "test_timeout": seconds, "known_bug": KnownBug.of,
    "row": _row, "needs_kernel": _options,
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse marks of ours that make no sense, before a machine is booted for them."""
    for item in items:
        for mark in item.iter_markers():
            reader = _READERS.get(mark.name)
            if reader is None:
                continue
            try:
                reader(mark)
            except (TypeError, ValueError, AttributeError, re.error) as error:
                usage = next(line for line in MARKS if line.startswith(f"{mark.name}("))
                raise pytest.UsageError(f"{item.nodeid}: mark {mark.name}: {error}; write {usage}") from error
