# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding a kernel's debug information beside its image, with real ELF files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.provision import debuginfo

_NAMES = b"\0.debug_info\0.shstrtab\0"


def elf(*, dwarf: bool) -> bytes:
    """Give an ELF64 file with one section, `.debug_info` or none such, and the table of names."""
    name = 1 if dwarf else 0
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64 + len(_NAMES), 0, 64, 0, 0, 64, 3, 2)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, 64, 0, 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 13, 3, 0, 0, 64, len(_NAMES), 0, 0, 1, 0)
    return header + _NAMES + sections


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give the image in a build tree that has no vmlinux yet."""
    (tmp_path / "arch/x86/boot").mkdir(parents=True)
    image = tmp_path / "arch/x86/boot/bzImage"
    image.write_bytes(b"HdrS")
    return image


def test_the_image_itself_may_have_it(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(elf(dwarf=True))
    assert debuginfo.of(tmp_path / "vmlinux") == tmp_path / "vmlinux"


def test_it_is_found_beside_the_image(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(elf(dwarf=True))
    assert debuginfo.of(tmp_path / "bzImage") == tmp_path / "vmlinux"


def test_it_is_found_at_the_top_of_the_build_tree(tree: Path, tmp_path: Path) -> None:
    assert debuginfo.of(tree) is None
    (tmp_path / "vmlinux").write_bytes(elf(dwarf=True))
    assert debuginfo.of(tree) == tmp_path / "vmlinux"


def test_three_folders_up_counts_in_a_build_tree_only(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(elf(dwarf=True))
    (tmp_path / "a/b/c").mkdir(parents=True)
    assert debuginfo.of(tmp_path / "a/b/c/bzImage") is None


@pytest.mark.parametrize("content", [b"", b"\x7fELF", elf(dwarf=False), elf(dwarf=True)[:-65], b"text"])
def test_a_vmlinux_without_it_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vmlinux").write_bytes(content)
    assert debuginfo.of(tmp_path / "vmlinux") is None
