# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things live: the project's data, the cache, the output, the sockets. Nothing else decides such a thing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent
APP = "iov-harness"
_RUNTIME_LIMIT = 80
"""Bytes that leave room for a private folder and a socket's name below it."""


def data_root() -> Path:
    """Give the folder that holds `qemu-configs/`, `guest-images/`, `tests/` and `docs/`.

    That is the checkout when the package lies in one, else the copy inside the installed package.
    """
    checkout = _PACKAGE.parent
    return checkout if (checkout / "qemu-configs").is_dir() else _PACKAGE / "_data"


def profiles() -> Path:
    """Give the folder of the built-in profiles."""
    return data_root() / "qemu-configs"


def kernels() -> Path:
    """Give the folder of the kernel recipes."""
    return data_root() / "guest-images" / "kernels"


def initramfs() -> Path:
    """Give the folder of the guest root's manifest and init script."""
    return data_root() / "guest-images" / "initramfs"


def modules() -> Path:
    """Give the folder of the kernel modules that tests load."""
    return data_root() / "guest-images" / "modules"


def overlay() -> Path:
    """Give the folder of the device that is compiled into QEMU."""
    return data_root() / "qemu-configs" / "overlay"


def docs() -> Path:
    """Give the folder of the documents, whose examples are tested."""
    return data_root() / "docs"


def default_cache() -> Path:
    """Give the cache used when no setting names another."""
    return platformdirs.user_cache_path(APP)


def user_config() -> Path:
    """Give the user's own settings file, which need not exist."""
    return platformdirs.user_config_path(APP) / "config.toml"


def output() -> Path:
    """Give the folder for everything a run writes: `build/` under the current directory."""
    return Path.cwd() / "build"


def runtime() -> Path:
    """Give the folder under which each process makes its private directory for sockets.

    UNIX socket paths end at 108 bytes (`sun_path`), so this is short, and never below the current directory.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_absolute() and base.is_dir() and os.access(base, os.W_OK) and _is_short(base / APP):
        return base / APP
    chosen = Path(tempfile.gettempdir()) / f"{APP}-{os.getuid()}"
    return chosen if _is_short(chosen) else Path("/tmp") / chosen.name  # noqa: S108 - its owner and mode are checked


def _is_short(root: Path) -> bool:
    return len(os.fsencode(root)) <= _RUNTIME_LIMIT


def shown(path: Path) -> Path:
    """Give a path as it is told to the user: relative where it is below the folder that the command runs in."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
