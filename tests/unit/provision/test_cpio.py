# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive is read back as init/initramfs.c does: header by header."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from harness.provision import cpio


class Record(NamedTuple):
    name: str
    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    mtime: int
    rdev: tuple[int, int]
    data: bytes


def archive(*entries: cpio.Entry) -> bytes:
    stream = io.BytesIO()
    cpio.write(stream, entries)
    return stream.getvalue()


def records(packed: bytes) -> Iterator[Record]:
    at = 0
    while True:
        assert packed[at : at + 6] == b"070701"
        fields = [int(packed[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        ino, mode, uid, gid, nlink, mtime, size, _, _, major, minor, name_size, check = fields
        name = packed[at + 110 : at + 110 + name_size]
        start = (at + 110 + name_size + 3) & ~3
        at = (start + size + 3) & ~3
        assert check == 0
        assert name.endswith(b"\0")
        record = Record(
            name[:-1].decode(), ino, mode, uid, gid, nlink, mtime, (major, minor), packed[start : start + size]
        )
        if record.name == "TRAILER!!!":
            assert not packed[at:].strip(b"\0")
            return
        yield record


def read(*entries: cpio.Entry) -> dict[str, Record]:
    return {record.name: record for record in records(archive(*entries))}


@pytest.mark.parametrize("size", range(9))
def test_a_file_of_any_length_comes_back_whole_and_so_does_the_one_after_it(size: int) -> None:
    found = read(cpio.file("a" * (size + 1), b"x" * size, 0o755), cpio.file("z", b"last"))
    assert found["a" * (size + 1)].data == b"x" * size
    assert found["a" * (size + 1)].mode == stat.S_IFREG | 0o755
    assert found["z"].data == b"last"


def test_a_link_holds_its_target_and_a_device_its_numbers() -> None:
    found = read(cpio.symlink("lib64", "usr/lib64"), cpio.char_device("console", 5, 1, 0o620))
    assert stat.S_ISLNK(found["lib64"].mode)
    assert found["lib64"].data == b"usr/lib64"
    assert found["console"].mode == stat.S_IFCHR | 0o620
    assert found["console"].rdev == (5, 1)


def test_parents_that_nobody_gave_come_before_what_they_hold() -> None:
    found = read(cpio.file("usr/lib/x/y", b""), cpio.directory("usr", 0o700))
    assert list(found) == ["usr", "usr/lib", "usr/lib/x", "usr/lib/x/y"]
    assert found["usr"].mode == stat.S_IFDIR | 0o700
    assert found["usr/lib"].mode == stat.S_IFDIR | 0o755


def test_the_order_in_which_entries_are_given_changes_nothing() -> None:
    entries = [cpio.file("b/c", b"1"), cpio.symlink("a", "b"), cpio.file("b-d", b"2"), cpio.directory("b")]
    assert archive(*entries) == archive(*reversed(entries))


def test_all_belongs_to_root_dates_from_the_epoch_and_has_an_inode_of_its_own() -> None:
    found = read(cpio.file("a/b", b"1"), cpio.file("a/c", b"2"), cpio.symlink("d", "a"))
    assert {(record.uid, record.gid, record.mtime) for record in found.values()} == {(0, 0, 0)}
    assert [record.ino for record in found.values()] == [1, 2, 3, 4]


def test_no_file_is_taken_for_a_hard_link() -> None:
    found = read(cpio.file("a/b", b"1"), cpio.file("a/c", b"1"))
    assert [record.nlink for record in found.values()] == [2, 1, 1]


@pytest.mark.parametrize("size", [0, 1, 300, 511, 512, 5000])
def test_the_archive_fills_whole_blocks_of_512_bytes(size: int) -> None:
    packed = archive(cpio.file("a", b"x" * size))
    assert len(packed) % 512 == 0
    assert len(packed) - packed.rindex(b"TRAILER!!!") <= 512 + 12


def test_nothing_at_all_is_an_archive_too() -> None:
    assert read() == {}


def test_a_name_given_twice_is_refused_before_anything_is_written() -> None:
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="usr/bin/x is given twice"):
        cpio.write(stream, [cpio.file("a", b""), cpio.file("usr/bin/x", b"1"), cpio.file("usr/bin/x", b"1")])
    assert not stream.getvalue()


@pytest.mark.parametrize("parent", [cpio.symlink("lib", "usr/lib"), cpio.file("lib", b"")])
def test_an_entry_below_something_that_is_no_directory_is_refused(parent: cpio.Entry) -> None:
    with pytest.raises(ValueError, match="lib/x lies below lib, which is no directory"):
        archive(parent, cpio.file("lib/x", b""))


@pytest.mark.parametrize("name", ["", "/", "/init", "//init", ".", "./init", "a/", "a//b", "../a", "a/../b", "a\0b"])
def test_a_name_that_is_not_plain_and_relative_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a plain name"):
        cpio.file(name, b"")


def test_a_name_that_would_end_the_archive_is_refused() -> None:
    with pytest.raises(ValueError, match="would end the archive"):
        cpio.file("TRAILER!!!", b"")


def test_a_mode_without_a_type_is_refused() -> None:
    with pytest.raises(ValueError, match="no type of file"):
        cpio.Entry("init", 0o755)
