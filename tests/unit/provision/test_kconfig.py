# SPDX-License-Identifier: GPL-2.0-or-later
"""Configurations beside and inside of kernels; corrupt ones tell nothing, and never more than memory holds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard
from makings import bzimage, put, vmlinux

from harness.provision import kconfig

CONFIG = 'CONFIG_PCI=y\n# CONFIG_XEN is not set\nCONFIG_VFIO=m\nCONFIG_NR_CPUS=64\nCONFIG_LOCALVERSION="-x"\n'
PARSED = {"PCI": "y", "VFIO": "m", "NR_CPUS": "64", "LOCALVERSION": "-x"}
MIB = 2**20


def ikconfig(text: str = CONFIG) -> bytes:
    """Give what kernel/configs.c puts into an image."""
    return b"IKCFG_ST" + gzip.compress(text.encode()) + b"IKCFG_ED"


def lz4_legacy(data: bytes) -> bytes:
    """Compress in the legacy frame format (lz4's doc/lz4_Frame_format.md): blocks of 8 MiB, each behind its length."""
    packed = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), 8 * MIB):
        block = lz4.block.compress(data[at : at + 8 * MIB], store_size=False)
        packed += struct.pack("<I", len(block)) + block
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": lz4_legacy,
}
packed = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


def inside(tmp_path: Path, payload: bytes) -> kconfig.KernelConfig | None:
    return kconfig.of(put(tmp_path / "bzImage", bzimage(payload)))


def test_what_is_not_set_is_absent() -> None:
    assert kconfig.parse(CONFIG) == PARSED


@packed
def test_a_config_is_found_in_a_payload_of_any_compression(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    content = bytes(9 * MIB) + ikconfig() + b"more"
    size = struct.pack("<I", len(content))  # scripts/Makefile.lib, size_append
    assert inside(tmp_path, pack(content) + size) == PARSED


def test_a_config_is_found_in_a_vmlinux(tmp_path: Path) -> None:
    assert kconfig.of(put(tmp_path / "vmlinux", vmlinux(b"IKCFG_ED" + ikconfig()))) == PARSED


@packed
def test_a_kernel_without_a_config_tells_none(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert inside(tmp_path, pack(b"Linux version 6.12.1")) is None


@packed
def test_a_corrupt_payload_tells_none(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    payload = pack(bytes(range(256)) * 40 + ikconfig())
    for end in (6, 12, len(payload) // 2):
        assert inside(tmp_path, payload[:end]) is None
        assert inside(tmp_path, payload[:end] + b"\xff" * 30) is None
        assert inside(tmp_path, payload[:end] + bytes(30)) is None


@pytest.mark.parametrize("payload", [b"", b"plain", b"\x02\x21\x4c\x18", b"\x02\x21\x4c\x18" + b"\xff" * 8])
def test_a_payload_that_is_none_tells_none(tmp_path: Path, payload: bytes) -> None:
    assert inside(tmp_path, payload) is None


@pytest.mark.parametrize("field", [struct.pack("<II", 0xFFFFFFFF, 9), struct.pack("<II", 0x40, 0xFFFFFFFF), bytes(8)])
def test_a_payload_beyond_the_file_tells_none(tmp_path: Path, field: bytes) -> None:
    data = bytearray(bzimage(gzip.compress(b"")))
    data[0x248:0x250] = field
    assert kconfig.of(put(tmp_path / "bzImage", bytes(data))) is None


@pytest.mark.parametrize(
    "content",
    [
        ikconfig()[:-8],
        ikconfig()[8:],
        ikconfig()[:40] + b"IKCFG_ED",
        ikconfig()[:-12] + b"\0\0\0\0IKCFG_ED",
        b"IKCFG_ST\x1f\x8b\x08IKCFG_ED",
        ikconfig("#" * (4 * MIB + 1)),
    ],
    ids=["no end", "no start", "cut short", "wrong length", "nothing", "bomb"],
)
def test_a_broken_config_inside_is_none_rather_than_a_part_of_one(tmp_path: Path, content: bytes) -> None:
    assert kconfig.of(put(tmp_path / "vmlinux", vmlinux(content))) is None


@packed
def test_a_payload_is_decompressed_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(kconfig, "_LIMIT", MIB)
    assert inside(tmp_path, pack(bytes(MIB // 2) + ikconfig())) == PARSED
    assert inside(tmp_path, pack(bytes(9 * MIB) + ikconfig())) is None


def with_crc(header: bytes) -> bytes:
    """Give a block header of xz (xz's doc/xz-file-format.txt, section 3.1)."""
    return header + struct.pack("<I", zlib.crc32(header))


@pytest.mark.parametrize(
    "header",
    [
        b"\x5d\0\0\xff\xff" + b"\xff" * 8,  # lzma: a dictionary of almost 4 GiB, the size unknown
        bytes.fromhex("fd377a585a00 0000 ff12d941") + with_crc(b"\2\0\x21\1\x28\0\0\0"),  # xz: one of 4 GiB - 1
        bytes.fromhex("28b52ffd e0") + struct.pack("<Q", 2**62),  # RFC 8878, section 3.1.1: size of the content
    ],
    ids=["lzma", "xz", "zstd"],
)
def test_memory_is_not_taken_because_a_header_asks_for_it(tmp_path: Path, header: bytes) -> None:
    tracemalloc.start()
    assert inside(tmp_path, header + bytes(100)) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= kconfig._LIMIT + MIB


@pytest.mark.parametrize(
    ("image", "config"),
    [
        ("boot/vmlinuz-6.12.1", "boot/config-6.12.1"),
        ("boot/kernel", "boot/config-6.12.1"),
        ("boot/vmlinuz-mine", "boot/config-mine"),
        ("modules/6.12.1/vmlinuz", "modules/6.12.1/config"),
        ("linux/vmlinux", "linux/.config"),
        ("linux/arch/x86/boot/bzImage", "linux/.config"),
    ],
)
def test_a_config_is_found_beside_the_image(tmp_path: Path, image: str, config: str) -> None:
    put(tmp_path / config, CONFIG)
    path = put(tmp_path / image, bzimage(gzip.compress(ikconfig("CONFIG_INSIDE=y\n"))))
    assert kconfig.of(path, "6.12.1") == PARSED


def test_the_config_of_the_release_goes_before_the_others(tmp_path: Path) -> None:
    image = put(tmp_path / "vmlinuz-mine", bzimage())
    for name in (".config", "config", "config-mine", "config-6.12.1"):
        put(tmp_path / name, f"CONFIG_FROM={name}\n")
        assert kconfig.of(image, "6.12.1") == {"FROM": name}


def test_a_config_of_a_build_tree_is_not_looked_for_from_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / ".config", CONFIG)
    assert kconfig.of(put(tmp_path / "some/other/place/bzImage", bzimage())) is None


def test_a_file_beside_the_image_that_is_no_kernel_config_is_passed_over(tmp_path: Path) -> None:
    image = put(tmp_path / "bzImage", bzimage(gzip.compress(ikconfig())))
    put(tmp_path / "config", "Host *\n  ForwardAgent no\n")
    (tmp_path / "config-6.12.1").mkdir()
    os.mkfifo(tmp_path / "config-bzImage")
    (tmp_path / ".config").symlink_to(".config")
    assert kconfig.of(image, "6.12.1") == PARSED


def test_names_too_long_for_a_config_beside_are_no_error(tmp_path: Path) -> None:
    image = put(tmp_path / ("k" * 255), bzimage(gzip.compress(ikconfig())))
    assert kconfig.of(image, "6." * 200) == PARSED


def test_a_config_with_bytes_that_are_no_text_is_read(tmp_path: Path) -> None:
    put(tmp_path / "config", b'CONFIG_LOCALVERSION="\xff"\r\nCONFIG_PCI=y\r\n')
    assert kconfig.of(put(tmp_path / "bzImage", bzimage())) == {"LOCALVERSION": "\ufffd", "PCI": "y"}


@pytest.mark.parametrize(
    ("option", "modules", "lacking"),
    [
        ("PCI", False, []),
        ("VFIO", True, []),
        ("VFIO", False, ["CONFIG_VFIO (a module: give --modules)"]),
        ("XEN", True, ["CONFIG_XEN"]),
        ("XEN|PCI", False, []),
        ("XEN|VFIO", True, []),
        ("XEN|VFIO", False, ["CONFIG_XEN or CONFIG_VFIO (a module: give --modules)"]),
        ("XEN|KVM", True, ["CONFIG_XEN or CONFIG_KVM"]),
        ("NR_CPUS", True, ["CONFIG_NR_CPUS"]),
    ],
)
def test_an_option_is_there_when_built_in_or_when_its_module_can_be_had(
    option: str, modules: bool, lacking: list[str]
) -> None:
    assert kconfig.missing(PARSED, [option], modules=modules) == lacking


def test_all_that_is_missing_is_named_in_the_order_asked_for() -> None:
    assert kconfig.missing({}, ["B", "PCI", "A"], modules=True) == ["CONFIG_B", "CONFIG_PCI", "CONFIG_A"]
