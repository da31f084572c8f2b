# SPDX-License-Identifier: GPL-2.0-or-later
"""Compilations remembered beyond the folder that they were made in, where the machine has ccache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from harness.provision.cache import BUILDS, Cache

CCACHE = f"{BUILDS}/ccache"
"""Where they are, and the lock that is held, shared, while something is compiled."""
_SIZE = "5G"


def has_ccache() -> bool:
    """Tell whether the machine has it."""
    return shutil.which("ccache") is not None


def ccache_environment(cache: Cache) -> Mapping[str, str]:
    """Give what tells ccache where to keep things, whatever the user's own settings."""
    folder = cache.root / CCACHE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.utime(folder)
    # Never the depend mode: it takes an old object for a new one where a source has .incbin, as the kernel's piggy.S,
    # which holds the compressed kernel.
    return {
        "CCACHE_DIR": str(folder), "CCACHE_MAXSIZE": _SIZE, "CCACHE_NODEPEND": "1", "CCACHE_CONFIGPATH": os.devnull,
    }  # fmt: skip
