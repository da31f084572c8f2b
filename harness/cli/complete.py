# SPDX-License-Identifier: GPL-2.0-or-later
"""What the TAB key offers: names, and never an error."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from harness import config
from harness.device import models as device_models
from harness.errors import HarnessError
from harness.provision import kernel
from harness.provision.cache import Cache
from harness.qemu.library import Library


def profiles(context: typer.Context, incomplete: str) -> list[str]:
    """Give the profiles that begin so, the user's own among them."""
    try:
        settings = config.load(profile_dir=tuple(context.params.get("profile_dir") or ()))
        return _beginning(incomplete, Library(settings.profile_dir).names())
    except (HarnessError, OSError):
        return []


def kernels(incomplete: str) -> list[str]:
    """Give the kernels that begin so, built ones among them; where there is none, the shell offers files."""
    try:
        return _beginning(incomplete, kernel.names(Cache(config.load().cache_dir)))
    except (HarnessError, OSError):
        return []


def models(incomplete: str) -> list[str]:
    """Give the device models that begin so; where there is none, the shell offers files."""
    return _beginning(incomplete, device_models.BUILT_IN)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
