# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees of tiny modules: ELF files with nothing in them but a .modinfo section."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from harness.errors import CouldNotRun, UsageError
from harness.provision import modules

NAMES = b"\0.modinfo\0.shstrtab\0"


def ko(*info: str, section: str = ".modinfo") -> bytes:
    """Make an ELF64 relocatable file for x86-64 (elf(5)): header, .modinfo, .shstrtab, three section headers."""
    modinfo = b"".join(item.encode() + b"\0" for item in info)
    names = NAMES.replace(b".modinfo", section.encode())
    start = 64 + len(modinfo) + len(names)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 3, 2
    )
    sections = [
        (0, 0, 0, 0),
        (1, 1, 64, len(modinfo)),
        (10, 3, 64 + len(modinfo), len(names)),
    ]  # name, type, offset, size
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0) for name, kind, at, size in sections
    )
    return header + modinfo + names + table


def put(folder: Path, path: str, *info: str) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(ko(*info))
    return file


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Give an empty RELEASE folder, in a tree without a merged /usr."""
    folder = tmp_path / "lib/modules/6.1.0"
    (folder / "kernel").mkdir(parents=True)
    return folder


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "ko": bytes,
    "ko.gz": gzip.compress,
    "ko.xz": lzma.compress,
    "ko.zst": zstandard.compress,
}
packed = pytest.mark.parametrize(("suffix", "pack"), PACKERS.items(), ids=PACKERS)


@packed
def test_a_module_is_read_however_it_is_compressed(release: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    plain = ko("name=a", "depends=b")
    (release / f"kernel/a.{suffix}").write_bytes(pack(plain))
    b = put(release, "kernel/b.ko", "depends=")
    assert modules.content(release / f"kernel/a.{suffix}") == plain
    assert modules.find(release).closure(["a"]).files == (b, release / f"kernel/a.{suffix}")


@packed
def test_a_module_that_is_cut_short_is_named(release: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    file = release / f"kernel/a.{suffix}"
    file.write_bytes(pack(ko("depends="))[:-20])
    with pytest.raises(CouldNotRun, match=f"kernel/a.{suffix}"):
        modules.find(release).closure(["a"])


@pytest.mark.parametrize("suffix", ["ko.gz", "ko.xz", "ko.zst"])
def test_a_file_that_is_not_what_its_suffix_says_is_named(tmp_path: Path, suffix: str) -> None:
    file = put(tmp_path, f"a.{suffix}")
    with pytest.raises(CouldNotRun, match=f"a.{suffix} cannot be read as a kernel module"):
        modules.content(file)


def streamed(data: bytes) -> bytes:
    """Compress without the size in the header, as `zstd` does from a pipe."""
    packer = zstandard.ZstdCompressor(write_content_size=False)
    return packer.compress(data)


@pytest.mark.parametrize(
    ("suffix", "pack"), [*PACKERS.items(), ("ko.zst", streamed)], ids=[*PACKERS, "ko.zst streamed"]
)
def test_a_module_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(modules, "_LIMIT", 2**20)
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(pack(bytes(2**20)))
    assert len(modules.content(file)) == 2**20
    file.write_bytes(pack(bytes(2**20 + 1)))
    with pytest.raises(CouldNotRun, match=f"a.{suffix}"):
        modules.content(file)


def test_a_size_told_by_a_zstd_header_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "a.ko.zst"
    # RFC 8878, section 3.1.1: magic, descriptor (single segment, size in eight bytes), size, one empty last block
    file.write_bytes(bytes.fromhex("28b52ffd e0") + struct.pack("<Q", 2**62) + bytes.fromhex("010000"))
    with pytest.raises(CouldNotRun, match="too large a size"):
        modules.content(file)


def test_a_file_without_modinfo_is_no_module(release: Path) -> None:
    (release / "kernel/a.ko").write_bytes(ko("depends=", section=".comment"))
    with pytest.raises(CouldNotRun, match=r"a\.ko is no kernel module"):
        modules.find(release).closure(["a"])


def test_dependencies_come_before_what_needs_them_and_only_once(release: Path) -> None:
    put(release, "kernel/net/top.ko", "depends=left,right")
    put(release, "kernel/left.ko", "depends=base")
    put(release, "kernel/right.ko", "depends=base")
    put(release, "kernel/lib/base.ko", "depends=")
    put(release, "kernel/other.ko", "depends=")
    closure = modules.find(release).closure(["top", "base"])
    assert [path.stem for path in closure.files] == ["base", "left", "right", "top"]
    assert not closure.missing


def test_modules_are_loaded_in_the_order_in_which_they_are_asked_for(release: Path) -> None:
    for name in "abc":
        put(release, f"kernel/{name}.ko", "depends=")
    assert [path.stem for path in modules.find(release).closure("cab").files] == ["c", "a", "b"]


def test_what_a_softdep_wants_before_is_loaded_and_what_it_wants_after_is_not(release: Path) -> None:
    put(
        release, "kernel/a.ko", "depends=hard", "softdep=bare pre: one two post: after", "softdep=post: late pre: three"
    )
    for name in ("bare", "one", "two", "three", "after", "late", "hard"):
        put(release, f"kernel/{name}.ko", "depends=")
    assert [path.stem for path in modules.find(release).closure(["a"]).files] == ["hard", "one", "two", "three", "a"]


def test_a_softdep_that_is_nowhere_is_not_missed(release: Path) -> None:
    put(release, "kernel/a.ko", "depends=", "softdep=pre: platform:gpio crypto-crc32c")
    assert not modules.find(release).closure(["a"]).missing


def test_softdeps_that_form_a_ring_are_each_loaded_once(release: Path) -> None:
    put(release, "kernel/a.ko", "depends=", "softdep=pre: b")
    put(release, "kernel/b.ko", "depends=", "softdep=pre: a")
    assert [path.stem for path in modules.find(release).closure(["a", "b"]).files] == ["b", "a"]


def test_a_dash_and_an_underscore_are_the_same(release: Path) -> None:
    put(release, "kernel/vfio-pci-core.ko", "depends=")
    put(release, "kernel/vfio_pci.ko", "depends=vfio_pci-core")
    closure = modules.find(release).closure(["vfio-pci", "no-such"])
    assert [path.name for path in closure.files] == ["vfio-pci-core.ko", "vfio_pci.ko"]
    assert closure.missing == {"no_such"}


def test_what_is_built_in_is_told_and_not_loaded(release: Path) -> None:
    (release / "modules.builtin").write_text("kernel/drivers/virtio/virtio-pci.ko\nkernel/lib/crc32.ko\n")
    put(release, "kernel/net.ko", "depends=virtio_pci", "softdep=pre: crc32")
    closure = modules.find(release).closure(["net", "virtio_pci"])
    assert [path.stem for path in closure.files] == ["net"]
    assert closure.builtin == {"virtio_pci", "crc32"}


def test_what_is_needed_and_nowhere_is_told_as_missing(release: Path) -> None:
    put(release, "kernel/a.ko", "depends=gone")
    closure = modules.find(release).closure(["a", "never"])
    assert closure.missing == {"gone", "never"}
    assert [path.stem for path in closure.files] == ["a"]


def test_a_module_in_updates_goes_before_its_namesake(release: Path) -> None:
    put(release, "kernel/igb.ko", "depends=")
    put(release, "zone/igb.ko", "depends=")
    newer = put(release, "updates/dkms/igb.ko", "depends=")
    assert modules.find(release).closure(["igb"]).files == (newer,)


@pytest.mark.parametrize("place", ["lib/modules", "usr/lib/modules"])
def test_a_tree_with_one_release_needs_no_name(tmp_path: Path, place: str) -> None:
    (tmp_path / place / "6.1.0/kernel").mkdir(parents=True)
    assert modules.find(tmp_path) == modules.ModuleTree(tmp_path / place / "6.1.0", "6.1.0")


def test_lib_that_is_a_link_to_usr_lib_does_not_make_two_of_one_release(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/modules/6.1.0/kernel").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    assert modules.find(tmp_path).release == "6.1.0"


def test_the_release_says_which_of_several_is_meant(release: Path, tmp_path: Path) -> None:
    (release.parent / "6.2.0/kernel").mkdir(parents=True)
    assert modules.find(tmp_path, "6.1.0").directory == release


def test_several_releases_without_a_name_are_refused_and_told(release: Path, tmp_path: Path) -> None:
    (release.parent / "6.2.0/kernel").mkdir(parents=True)
    with pytest.raises(UsageError, match=rf"{tmp_path}: expected one lib/modules/RELEASE .* there is 6\.1\.0, 6\.2\.0"):
        modules.find(tmp_path)


def test_modules_of_another_release_are_refused(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"expected lib/modules/6\.9\.9 .* there is {release.name}"):
        modules.find(tmp_path, "6.9.9")


def test_a_folder_without_modules_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: expected one lib/modules/RELEASE"):
        modules.find(tmp_path)


def test_a_release_folder_is_taken_itself_and_goes_by_the_name_asked_for(release: Path) -> None:
    assert modules.find(release) == modules.ModuleTree(release, "6.1.0")
    assert modules.find(release, "6.1.0-custom") == modules.ModuleTree(release, "6.1.0-custom")


def test_a_kernel_whose_modules_are_all_built_in_has_a_tree_too(tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules/6.1.0"
    folder.mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/nvme.ko\n")
    assert modules.find(tmp_path).closure(["nvme"]).builtin == {"nvme"}
