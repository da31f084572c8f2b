# SPDX-License-Identifier: GPL-2.0-or-later
"""How many guests this machine holds at once."""

from __future__ import annotations

import os

import psutil

_MEMORY = 800 * 1024 * 1024
"""Bytes for the default guest's memory, all of it written to, for QEMU, and for the Python beside it."""


def guests(*, for_each_core: float = 1.0) -> int:
    """Give as many as have memory, and at most `for_each_core` for each of the cores that we may use."""
    return max(1, min(int(len(os.sched_getaffinity(0)) * for_each_core), psutil.virtual_memory().available // _MEMORY))
