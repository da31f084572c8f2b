# SPDX-License-Identifier: GPL-2.0-or-later
"""How many guests are given a machine."""

from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from harness.machine import room

GUEST = 800 << 20


@pytest.mark.parametrize(
    ("cores", "memory", "for_each_core", "expected"),
    [(2, 10 * GUEST, 1.0, 2), (2, 10 * GUEST, 1.5, 3), (3, 10 * GUEST, 1.5, 4), (8, 2 * GUEST, 1.5, 2), (1, 0, 1.5, 1)],
)
def test_cores_and_memory_say_how_many(
    monkeypatch: pytest.MonkeyPatch, cores: int, memory: int, for_each_core: float, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
    assert room.guests(for_each_core=for_each_core) == expected
