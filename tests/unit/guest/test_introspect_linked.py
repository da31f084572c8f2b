# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that does not say where it lies: it lies where it was linked only if its banner is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kernel_memory import BASE, SIZE, Memory

from harness.guest.introspect import program
from harness.guest.introspect.failures import CannotIntrospect
from harness.guest.introspect.linked import Linked, linked

BANNER = b"Linux version 7.3.4 (me@here) #1 SMP"
ELSEWHERE = "not where its vmlinux says, and does not tell QEMU where it is: that takes CONFIG_VMCORE_INFO"


def test_a_banner_in_its_place_proves_it() -> None:
    kernel = Memory()
    kernel.put(0x100, BANNER)
    program._check_place(kernel.program, Linked("", BANNER, BASE + 0x100))


@pytest.mark.parametrize(
    ("said", "address"),
    [(BANNER.replace(b"#1", b"#2"), BASE + 0x100), (BANNER, BASE + 0x101), (BANNER, BASE + SIZE)],
    ids=["another kernel", "another place", "no place"],
)
def test_any_other_banner_is_refused(said: bytes, address: int) -> None:
    kernel = Memory()
    kernel.put(0x100, said)
    with pytest.raises(CannotIntrospect, match=ELSEWHERE):
        program._check_place(kernel.program, Linked("", BANNER, address))


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"no kernel"], ids=["empty", "cut", "text"])
def test_a_file_that_is_no_kernel_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "vmlinux"
    file.write_bytes(content)
    with pytest.raises(CannotIntrospect, match="vmlinux does not say where its kernel lies: "):
        linked(file)


@pytest.mark.parametrize("file", [Path(sys.executable), Path("/nowhere/vmlinux")], ids=["a program", "no file"])
def test_what_has_no_symbols_of_a_kernel_is_told_in_one_line(file: Path) -> None:
    with pytest.raises(CannotIntrospect, match="does not say where its kernel lies: "):
        linked(file)
