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


def ccache_environment(cache: Cache, *, depend: bool = False) -> Mapping[str, str]:
    """Give what tells ccache where to keep things, whatever the user's own settings.

    With `depend` it takes the compiler's word (-MD) for what a file includes, and need not preprocess what it has not
    got. Not for a kernel: there it would take an old object for a new one where a source has .incbin, as piggy.S, which
    holds the compressed kernel.
    """
    folder = cache.root / CCACHE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.utime(folder)
    return {
        "CCACHE_DIR": str(folder), "CCACHE_MAXSIZE": _SIZE, "CCACHE_CONFIGPATH": os.devnull,
        "CCACHE_DEPEND" if depend else "CCACHE_NODEPEND": "1",
    }  # fmt: skip
