# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's configuration, where the image carries it (IKCONFIG) or a file beside it says so."""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import lz4.block
import zstandard

from harness.provision.image import SetupHeader

KernelConfig = Mapping[str, str]
"""Symbol, without CONFIG_, to its value: y, m, a number or a text. What is not set is absent."""

_LINE = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)
_START, _END = b"IKCFG_ST\x1f\x8b\x08", b"IKCFG_ED"  # kernel/configs.c; between them a gzip of .config
_LIMIT = 512 * 1024 * 1024
"""Bytes of a decompressed image: an x86-64 vmlinux of today has 30 to 60 MB without debug information."""
_LZ4_LEGACY = b"\x02\x21\x4c\x18"  # the format that the kernel's `lz4 -l` writes
_CONFIG_LIMIT = 4 * 1024 * 1024


def parse(text: str) -> KernelConfig:
    """Read a `.config`."""
    return {symbol: value.strip('"') for symbol, value in _LINE.findall(text)}


def of(image: Path, release: str = "") -> KernelConfig | None:
    """Give the configuration of the kernel `image`, None where nothing tells it.

    Looked for beside it first: `config-RELEASE` (Debian's /boot), `config` (Debian 7.x), `.config` (a vmlinux in its
    build tree), `../../../.config` (arch/x86/boot/bzImage in its build tree); then inside it.
    """
    folder = image.parent
    suffix = image.name.removeprefix("vmlinuz-")
    names = [f"config-{name}" for name in (release, suffix) if name]
    files = [folder / name for name in (*names, "config", ".config")]
    if image.parts[-4:-1] == ("arch", "x86", "boot"):
        files.append(folder / "../../../.config")
    for file in files:
        with suppress(OSError):  # one that cannot be read, or a name longer than any file's
            if file.is_file() and (config := parse(file.read_text(encoding="utf-8", errors="replace"))):
                return config
    return _inside(image.read_bytes())


def missing(config: KernelConfig, options: Iterable[str], *, modules: bool) -> list[str]:
    """Name the options that are not set, or are modules where there are no `modules`; `A|B` asks for either."""
    lacking = []
    for option in options:
        values = {config.get(name) for name in option.split("|")}
        if "y" in values or ("m" in values and modules):
            continue
        names = " or ".join(f"CONFIG_{name}" for name in option.split("|"))
        lacking.append(f"{names} (a module: give --modules)" if "m" in values else names)
    return lacking


def _inside(data: bytes) -> KernelConfig | None:
    header = SetupHeader.read(data)
    if header is not None:
        data = _decompressed(data[header.payload_at : header.payload_at + header.payload_bytes])
    start = data.find(_START)
    end = data.find(_END, start)
    if start < 0 or end < 0:
        return None
    unzip = zlib.decompressobj(wbits=31)
    try:
        text = unzip.decompress(data[start + 8 : end], _CONFIG_LIMIT)
    except zlib.error:
        return None
    return parse(text.decode("utf-8", errors="replace")) if unzip.eof else None


def _decompressed(payload: bytes) -> bytes:
    """Decompress a bzImage's payload (arch/x86/boot/compressed/Makefile); nothing where that does not work."""
    for magic, decompress in _CODECS.items():
        if payload.startswith(magic):
            try:
                return decompress(payload)
            except (zlib.error, lzma.LZMAError, OSError, lz4.block.LZ4BlockError, zstandard.ZstdError):
                return b""
    return b""


def _lz4_legacy(payload: bytes) -> bytes:
    """Decompress blocks of at most 8 MB, each behind its compressed length; the payload ends with its full length."""
    result, position = bytearray(), len(_LZ4_LEGACY)
    while position + 8 <= len(payload) and len(result) < _LIMIT:
        (length,) = struct.unpack_from("<I", payload, position)
        block = payload[position + 4 : position + 4 + length]
        result += lz4.block.decompress(block, uncompressed_size=8 * 1024 * 1024)
        position += 4 + length
    return bytes(result)


_CODECS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": lambda data: zlib.decompressobj(wbits=31).decompress(data, _LIMIT),
    b"\xfd7zXZ\0": lambda data: lzma.LZMADecompressor(lzma.FORMAT_XZ, _LIMIT).decompress(data, _LIMIT),
    b"\x5d\0\0": lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE, _LIMIT).decompress(data, _LIMIT),
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data, _LIMIT),
    b"\x28\xb5\x2f\xfd": lambda data: zstandard.ZstdDecompressor().stream_reader(data).read(_LIMIT),
    _LZ4_LEGACY: _lz4_legacy,
}
