# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host must have to build QEMU, and the command that installs what it has not.

meson and ninja are not among it: they came with the harness, as Python packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import ninja

from harness.errors import CouldNotRun

_PROGRAMS: Mapping[str, str] = {
    "gcc": "gcc", "ld": "binutils", "make": "make", "patch": "patch", "pkg-config": "pkgconf", "tar": "tar",
}  # fmt: skip
# What meson.build asks pkg-config for, with all that can be left out left out; slirp is the guests' network.
_LIBRARIES: Mapping[str, str] = {"glib-2.0": "libglib2.0-dev", "zlib": "zlib1g-dev", "slirp": "libslirp-dev"}
_PYTHON: Mapping[str, str] = {"mesonbuild": "meson", "distlib": "distlib"}
"""Modules, and the packages that bring them."""


def check() -> None:
    """Raise `CouldNotRun`, naming all that is missing and how to get it, where QEMU cannot be built here."""
    missing = {program: package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if "pkg-config" in missing:
        missing |= _LIBRARIES
    else:
        missing |= {library: package for library, package in _LIBRARIES.items() if not _has_library(library)}
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise CouldNotRun(f"no QEMU can be built here: {', '.join(missing)} missing; apt-get install {packages}")
    lacking = [package for module, package in _PYTHON.items() if find_spec(module) is None]
    if lacking:
        raise CouldNotRun(f"no QEMU can be built here: {sys.executable} lacks them; pip install {' '.join(lacking)}")


def bin_folder() -> Path:
    """Give the folder of ninja, to be first in PATH."""
    return Path(ninja.BIN_DIR)


def compiler() -> str:
    """Say which compiler that is."""
    done = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _has_library(name: str) -> bool:
    return subprocess.run(["pkg-config", "--exists", name], capture_output=True, check=False).returncode == 0
