# SPDX-License-Identifier: GPL-2.0-or-later
"""The architectures that kernels are built for: the harness's own, which boots, and others, for their code's sake."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UsageError, unknown


@dataclass(frozen=True)
class Arch:
    """An architecture by the kernel's name for it (`ARCH`, which is also its folder in `arch/`)."""

    name: str
    fragment: str
    """What its configuration begins with, in `guest-images/kernels/`."""
    targets: tuple[str, ...]
    image: str | None = None
    """What boots, below the build folder; None for what is only built."""
    cross: str = ""
    """What stands before the names of its compiler and binutils (`CROSS_COMPILE`)."""
    package: str = "gcc"
    """The Debian package of its compiler."""


NATIVE = Arch("x86", "base", ("all",), "arch/x86/boot/bzImage")
_OTHERS = (
    Arch("powerpc", "powerpc", ("vmlinux",), None, "powerpc64le-linux-gnu-", "gcc-powerpc64le-linux-gnu"),
    Arch("s390", "s390", ("vmlinux",), None, "s390x-linux-gnu-", "gcc-s390x-linux-gnu"),
)


def foreign(name: str) -> Arch:
    """Give another architecture by its name; raises `UsageError`."""
    for arch in _OTHERS:
        if arch.name == name:
            return arch
    raise UsageError(f"--cross: {unknown('architecture', name, [arch.name for arch in _OTHERS])}")
