# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host must have to build a kernel, and the command that installs what it has not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

from harness.errors import CouldNotRun
from harness.provision.ccache import has_ccache
from harness.provision.kbuild.arch import Arch

# Documentation/process/changes.rst; lz4 compresses the image, git takes patches apart and lists trees.
_PROGRAMS: Mapping[str, str] = {
    "make": "make", "gcc": "gcc", "ld": "binutils", "flex": "flex", "bison": "bison", "bc": "bc", "lz4": "lz4",
    "perl": "perl", "git": "git", "tar": "tar",
}  # fmt: skip
# libelf: objtool reads and writes object files with it. libc: gcc alone does not bring its headers.
_HEADERS: Mapping[str, str] = {"stdio.h": "libc6-dev", "gelf.h": "libelf-dev"}


def check(arch: Arch) -> None:
    """Raise `CouldNotRun`, naming all that is missing and how to get it, where a kernel cannot be built here."""
    wanted = dict(_PROGRAMS)
    if arch.cross:
        wanted |= {f"{arch.cross}gcc": arch.package, f"{arch.cross}ld": f"binutils-{arch.cross.rstrip('-')}"}
    missing = {program: package for program, package in wanted.items() if shutil.which(program) is None}
    if "gcc" not in missing:
        missing |= {header: package for header, package in _HEADERS.items() if not _has_header(header)}
    elif missing:
        missing |= _HEADERS
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise CouldNotRun(f"no kernel can be built here: {', '.join(missing)} missing; apt-get install {packages}")


def compiler(arch: Arch) -> str:
    """Give the words for `CC`: the compiler, behind ccache where there is one."""
    gcc = f"{arch.cross}gcc"
    return f"ccache {gcc}" if has_ccache() else gcc


def version(arch: Arch) -> str:
    """Say which compiler that is."""
    done = subprocess.run([f"{arch.cross}gcc", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _has_header(name: str) -> bool:
    source = f"#include <{name}>\n"
    command = ["gcc", "-E", "-x", "c", "-", "-o", "/dev/null"]
    return subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0
