# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the vmlinux with the debug information that tells what a running kernel's memory means."""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

_IN_BUILD_TREE = "../../../vmlinux"
"""From arch/ARCH/boot/, where a build leaves the compressed image."""


def of(image: Path) -> Path | None:
    """Give the vmlinux of a kernel image, if it has DWARF: the image itself, one beside it or in its build tree."""
    places = [image, image.parent / "vmlinux"]
    if image.parent.name == "boot":
        places.append((image.parent / _IN_BUILD_TREE).resolve())
    return next((place for place in places if has_dwarf(place)), None)


def has_dwarf(path: Path) -> bool:
    """Tell whether a file is an ELF file with debug information in the DWARF format."""
    try:
        with path.open("rb") as stream:
            return ELFFile(stream).get_section_by_name(".debug_info") is not None
    except (OSError, ELFError, ValueError, OverflowError):
        return False
