# SPDX-License-Identifier: GPL-2.0-or-later
"""How many guests this machine holds at once."""

from __future__ import annotations

import os

import psutil

_MEMORY = 640 * 1024 * 1024
"""Bytes for the default guest's memory, all of it written to, and for QEMU."""


def guests(*, for_each_core: float = 1.0) -> int:
    """Give a number of guests that have memory, and not fewer cores than `for_each_core` says of those we may use."""
    return max(1, min(int(len(os.sched_getaffinity(0)) * for_each_core), psutil.virtual_memory().available // _MEMORY))
