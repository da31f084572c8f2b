# SPDX-License-Identifier: GPL-2.0-or-later
"""How many workers `-n auto` means: as many as there are cores, and memory for guests."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from harness import paths
from harness.pytest_plugin.parallel import pytest_xdist_auto_num_workers

XDISTS_OWN = 99
GUEST = 800 << 20
VARIABLE = "PYTEST_XDIST_AUTO_NUM_WORKERS"


@pytest.fixture(autouse=True)
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a machine of 8 cores with memory for 100 guests."""
    monkeypatch.delenv(VARIABLE, raising=False)
    set_machine(monkeypatch)


def set_machine(monkeypatch: pytest.MonkeyPatch, cores: int = 8, memory: int = 100 * GUEST) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory, total=1 << 60))


def workers(run_dir: Path | None = Path("/run"), rootpath: Path = Path("/somewhere")) -> int:
    options = {"--run-dir": run_dir}
    config: Any = SimpleNamespace(rootpath=rootpath, getoption=options.__getitem__)
    asked = pytest_xdist_auto_num_workers(cast("pytest.Config", config))
    next(asked)
    with pytest.raises(StopIteration) as over:
        asked.send(XDISTS_OWN)
    return cast("int", over.value.value)


@pytest.mark.parametrize(
    ("cores", "memory", "expected"),
    [
        (8, 100 * GUEST, 8),
        (1, 100 * GUEST, 1),
        (8, 3 * GUEST, 3),
        (8, 4 * GUEST - 1, 3),
        (8, GUEST - 1, 1),
        (8, 0, 1),
    ],
)
def test_there_is_a_worker_for_each_core_that_has_memory_for_a_guest_and_always_one(
    monkeypatch: pytest.MonkeyPatch, cores: int, memory: int, expected: int
) -> None:
    set_machine(monkeypatch, cores, memory)
    assert workers() == expected


def test_the_harness_own_tests_need_no_option() -> None:
    assert workers(run_dir=None, rootpath=paths.data_root()) == 8


def test_a_foreign_project_keeps_what_xdist_chose() -> None:
    assert workers(run_dir=None) == XDISTS_OWN


@pytest.mark.parametrize("value", ["3", ""])
def test_whoever_set_xdists_variable_is_not_overruled(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert workers() == XDISTS_OWN
