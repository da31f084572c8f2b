# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel files, whole, cut off and crafted: what is no kernel is refused in one line that names it."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from makings import bzimage, put, vmlinux

from harness.errors import UsageError
from harness.provision import image
from harness.provision.image import KernelImage, inspect

MAGIC = [*range(0x1FE, 0x200), *range(0x202, 0x206)]  # Documentation/arch/x86/boot.rst: boot_flag, header


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def release(tmp_path: Path, data: bytes) -> str:
    return inspect(put(tmp_path / "bzImage", data)).release


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        inspect(path)
    message = str(caught.value)
    assert message.startswith(f"kernel {path}")
    assert "\n" not in message
    return message.removeprefix(f"kernel {path}")


def test_a_bzimage_tells_its_release(tmp_path: Path) -> None:
    path = put(tmp_path / "vmlinuz", bzimage())
    assert inspect(path) == KernelImage(path, "bzImage", "6.12.1")


def test_a_vmlinux_tells_its_release(tmp_path: Path) -> None:
    path = put(tmp_path / "kernel", vmlinux(b"Linux version %s (%s)\0Linux version 7.2.0-rc1+ (x@y) #1\0"))
    assert inspect(path) == KernelImage(path, "vmlinux", "7.2.0-rc1+")


@pytest.mark.parametrize("name", ["6.12.1", "7.2.0-rc1-00042-gdeadbeef+", "6." + "1" * 62])
def test_a_release_is_what_stands_before_the_first_space(tmp_path: Path, name: str) -> None:
    assert release(tmp_path, bzimage(banner=f"{name} (x@y) #1\0".encode())) == name


@pytest.mark.parametrize(
    "banner", [b"", b"6.1", b"6.1/../../x ", b"../6.1 ", b"6.1\x1b[2J ", b"6.1\xff ", b"6." + b"1" * 63 + b" "]
)
def test_what_cannot_be_a_release_is_not_taken_for_one(tmp_path: Path, banner: bytes) -> None:
    assert release(tmp_path, bzimage(banner=banner)) == ""


@pytest.mark.parametrize("pointer", [0, 0xFFFF])
def test_a_pointer_to_no_release_gives_none(tmp_path: Path, pointer: int) -> None:
    data = patched(bzimage(), 0, b"9.9 (x@y)")
    assert release(tmp_path, patched(data, 0x20E, struct.pack("<H", pointer))) == ""


def test_no_setup_sectors_mean_four(tmp_path: Path) -> None:
    data = patched(bzimage(), 0x1F1, b"\0") + bytes(3 * 512)
    assert release(tmp_path, data) == "6.12.1"
    assert f"cut off: a bzImage of {len(data)} bytes" in refusal(put(tmp_path / "short", data[:-16]))


def test_a_bzimage_may_lack_a_part_of_its_last_paragraph_and_no_more(tmp_path: Path) -> None:
    data = bzimage(bytes(1000))
    assert release(tmp_path, data[:-15]) == "6.12.1"
    assert refusal(put(tmp_path / "short", data[:-16])) == (
        f" is cut off: a bzImage of {len(data)} bytes, of which {len(data) - 16} are there"
    )


@pytest.mark.parametrize("size", [4, 40, 63, 64, 100, 150])
def test_a_vmlinux_that_is_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    assert " is cut off: " in refusal(put(tmp_path / "vmlinux", vmlinux()[:size]))


def test_a_vmlinux_without_sections_is_told_to_be_cut_off_by_its_segments(tmp_path: Path) -> None:
    data = patched(vmlinux(), 32, struct.pack("<QQ", 500, 0))
    assert " is cut off: " in refusal(put(tmp_path / "vmlinux", patched(data, 60, bytes(2))))


@pytest.mark.parametrize(
    "data",
    [vmlinux(machine=183), vmlinux(machine=3, elf_class=1), vmlinux(elf_class=1), vmlinux(kind=1), vmlinux(kind=3)],
    ids=["aarch64", "i386", "x32", "object", "shared"],
)
def test_an_elf_file_that_is_no_kernel_for_this_machine_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refusal(put(tmp_path / "vmlinux", data)).startswith(" is an ELF file, but no x86-64 kernel; expected")


def test_a_program_that_is_no_kernel_is_refused(tmp_path: Path) -> None:
    assert " is an x86-64 program, but no Linux kernel; " in refusal(put(tmp_path / "a.out", vmlinux(b"Hurd 0.9\0")))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "a text file"),
        (b"x" * 4095 + "é".encode() * 9, "a text file"),
        (b"\xff\xff\xff", "no kernel at all"),
        (b"text\xff and more of it", "no kernel at all"),
        (bytes(5000), "no kernel at all"),
        (gzip.compress(bzimage()), "a gzip archive"),
        (b"MZ".ljust(5000, b"\0"), "an EFI program without a Linux setup header"),
    ],
    ids=["empty", "script", "split character", "short", "latin-1", "zeros", "gzip", "EFI"],
)
def test_what_is_no_kernel_is_called_what_it_is(tmp_path: Path, data: bytes, kind: str) -> None:
    path = put(tmp_path / "it", data)
    assert refusal(path) == f" is {kind}; expected a bzImage or a vmlinux for x86-64"


def odd_paths(folder: Path) -> Iterator[tuple[Path, str]]:
    yield folder, " is a folder;"
    yield folder / "none", ": No such file or directory;"
    yield put(folder / "file", "") / "below", ": Not a directory;"
    yield folder / ("x" * 300), ": File name too long;"
    (folder / "ring").symlink_to("ring")
    yield folder / "ring", ": Too many levels of symbolic links;"
    os.mkfifo(folder / "pipe")
    yield folder / "pipe", " is no regular file;"
    yield Path("/dev/zero"), " is no regular file;"


def test_a_path_that_leads_to_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    for path, message in odd_paths(tmp_path):
        assert refusal(path).startswith(message)


def test_a_file_larger_than_any_kernel_is_not_read(tmp_path: Path) -> None:
    path = put(tmp_path / "disk.img", bzimage())
    os.truncate(path, image._LARGEST + 1)
    assert refusal(path).startswith(" has 4294967297 bytes, more than any kernel;")


@pytest.mark.parametrize(
    ("data", "header"), [(bzimage(b"x"), range(0x1F1, 0x268)), (vmlinux(), range(64))], ids=["bzImage", "vmlinux"]
)
def test_no_byte_of_a_header_brings_on_anything_but_a_refusal(tmp_path: Path, data: bytes, header: range) -> None:
    path = tmp_path / "kernel"
    for at in header:
        for value in (b"\0", b"\x80", b"\xff"):
            path.write_bytes(patched(data, at, value))
            try:
                assert inspect(path).release in {"", "6.12.1"}
            except UsageError as error:
                assert str(error).startswith(f"kernel {path} is ")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("at", MAGIC)
def test_a_bzimage_is_told_by_all_of_its_magic(tmp_path: Path, at: int) -> None:
    assert " is no kernel at all; " in refusal(put(tmp_path / "bzImage", patched(bzimage(), at, b"x")))


@pytest.mark.parametrize("size", [0x1F0, 0x206, 0x24C])
def test_a_bzimage_without_the_whole_of_its_header_is_none(tmp_path: Path, size: int) -> None:
    assert " is no kernel at all; " in refusal(put(tmp_path / "bzImage", bzimage()[:size]))
