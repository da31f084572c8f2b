# SPDX-License-Identifier: GPL-2.0-or-later
"""The distribution's QEMU in a folder of its own, with all that it needs: libraries, firmware, a launcher."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.provision.apt import AptRoot, unpack
from harness.provision.cache import Cache
from harness.provision.prefix import Prefix

PROGRAM = "qemu-system-x86_64"
SUITE = "trixie-backports"
PACKAGE = "qemu-system-x86"
BINARY = Path("root/usr/bin") / PROGRAM
"""Where the program itself lies in the folder; what runs it is the launcher, PROGRAM."""
_ROOT = Path("$here/root")
LAUNCHER = """#!/bin/sh
# Runs the QEMU of this folder with its packages' firmware, and, but for one built with sanitizers, through their own
# loader: the host's libraries may be older.
here=$(dirname "$(readlink -f "$0")")
export QEMU_MODULE_DIR="$here/root/usr/lib/x86_64-linux-gnu/qemu"
exec {command} -L "$here/root/usr/share/qemu" -L "$here/root/usr/share/seabios" "$@"
"""


def unpack_qemu(cache: Cache, apt: AptRoot, draft: Path) -> Mapping[str, str]:
    """Fetch it into the folder `draft`; gives the versions of its packages. Raises `CouldNotRun`."""
    debs = draft / "debs"
    with cache.progress.task("QEMU: download") as advance:
        packages = apt.download([PACKAGE], debs, suite=SUITE, closure=True, advance=advance)
    with cache.progress.task("QEMU: unpack"):
        unpack(packages, draft / "root", cache)
        shutil.rmtree(debs)
    _launch(draft, Prefix(_ROOT).argv(f"usr/bin/{PROGRAM}"))
    return {package.name: package.version for package in packages}


def launch_directly(draft: Path) -> None:
    """Have the launcher start the program without the packages' loader: with the libraries that it was built with."""
    _launch(draft, [str(_ROOT / "usr/bin" / PROGRAM)])


def _launch(draft: Path, argv: Sequence[str]) -> None:
    # The draft is renamed into place later, so the launcher finds its folder when it runs.
    launcher = draft / PROGRAM
    launcher.write_text(LAUNCHER.format(command=" ".join(f'"{word}"' for word in argv)), encoding="utf-8")
    launcher.chmod(0o755)
