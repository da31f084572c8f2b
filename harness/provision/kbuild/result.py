# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a kernel that was built: the files of its cache entry."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import zstandard

from harness.errors import CouldNotRun
from harness.provision.cache import digest
from harness.provision.kbuild.arch import Arch
from harness.provision.kbuild.workshop import Workshop

IMAGE, VMLINUX, CONFIG, LOG, HEADERS = "bzImage", "vmlinux", "config", "build.log", "headers.tar.zst"
"""The files; modules and their lists lie in `lib/modules/RELEASE`. One that was only compiled has no image."""
_INSTALL_HEADERS = "scripts/package/install-extmod-build"
"""The kernel's own script that copies what modules are built against, for its packages of headers."""
_TAR_OPTIONS = "--dereference --exclude=include-prefixes"
"""For the tar that the script runs: what it finds are links, and no module includes device trees."""


def fill(draft: Path, workshop: Workshop, arch: Arch) -> str:
    """Copy what was made into the folder `draft`; gives what tells this kernel from others. Raises `DoesNotBuild`."""
    for name, made in ((VMLINUX, "vmlinux"), (CONFIG, ".config"), (IMAGE, arch.image)):
        if made:
            shutil.copyfile(workshop.objects / made, draft / name)
    if arch.image:
        make = workshop.make
        make.run("modules_install", INSTALL_MOD_PATH=str(draft), INSTALL_MOD_STRIP="1", DEPMOD="true")
        for link in ("build", "source"):
            (draft / "lib/modules" / workshop.release / link).unlink(missing_ok=True)
        _pack_headers(workshop, draft / HEADERS)
    shutil.copyfile(workshop.log, draft / LOG)
    return digest([_sha256(draft / name) for name in (VMLINUX, CONFIG, IMAGE) if (draft / name).exists()])


def _pack_headers(workshop: Workshop, to: Path) -> None:
    """Keep what a module of ours needs to be compiled for this kernel."""
    if not (workshop.tree / _INSTALL_HEADERS).is_file():
        return  # an older tree: then no module can be built for its kernel
    folder = to.parent / "headers"
    # Not behind ccache: where CC is not HOSTCC, the script has the tools of the build compiled for another machine.
    command = f"$(srctree)/{_INSTALL_HEADERS} {folder}"
    tar = {"TAR_OPTIONS": _TAR_OPTIONS}
    workshop.make.run("run-command", more=tar, KBUILD_RUN_COMMAND=command, CC=workshop.gcc)
    plain = to.with_suffix("")
    pack = ["tar", "-c", "--sort=name", "-C", str(folder), "-f", str(plain), "."]
    done = subprocess.run(pack, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CouldNotRun(f"the kernel's headers cannot be packed: {done.stderr.strip().partition(chr(10))[0]}")
    with plain.open("rb") as source, to.open("wb") as target:
        zstandard.ZstdCompressor().copy_stream(source, target)
    plain.unlink()
    shutil.rmtree(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
