# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel file is: a bzImage or a vmlinux, whole, and of which release."""

from __future__ import annotations

import codecs
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError

_EXPECTED = "expected a bzImage or a vmlinux for x86-64"
_LARGEST = 4 * 1024**3
"""Bytes of a kernel file, debug information and all: a disk image given by mistake is not read into memory."""
# At most __NEW_UTS_LEN bytes (include/uapi/linux/utsname.h); the name of a folder in lib/modules, so without a '/'.
_RELEASE = re.compile(rb"(\d[\x21-\x2e\x30-\x7e]{0,63}) ")
_BANNER = re.compile(rb"Linux version " + _RELEASE.pattern)  # init/version-timestamp.c
_HEADER_END = 0x268  # Documentation/arch/x86/boot.rst: kernel_info_offset is the last field of the setup header
_ELF_EXEC, _ELF_X86_64 = 2, 62  # e_type ET_EXEC and e_machine EM_X86_64, include/uapi/linux/elf.h and elf-em.h
_OTHERS = {b"\x1f\x8b": "a gzip archive", b"MZ": "an EFI program without a Linux setup header"}


@dataclass(frozen=True)
class KernelImage:
    """A kernel file; `release` is what `uname -r` will say, empty where the file does not tell."""

    path: Path
    format: Literal["bzImage", "vmlinux"]
    release: str


@dataclass(frozen=True)
class SetupHeader:
    """The fields of a bzImage's setup header that matter here; see Documentation/arch/x86/boot.rst."""

    setup_bytes: int
    protected_bytes: int
    version_at: int
    payload_at: int
    payload_bytes: int

    @classmethod
    def read(cls, data: bytes) -> SetupHeader | None:
        """Read it from a file's first bytes; None where there is none."""
        if len(data) < _HEADER_END or data[0x1FE:0x200] != b"\x55\xaa" or data[0x202:0x206] != b"HdrS":
            return None
        sectors = data[0x1F1] or 4  # 0 means 4, for old boot loaders
        (paragraphs,) = struct.unpack_from("<I", data, 0x1F4)
        (version,) = struct.unpack_from("<H", data, 0x20E)
        payload_at, payload_bytes = struct.unpack_from("<II", data, 0x248)
        setup = (sectors + 1) * 512
        return cls(setup, paragraphs * 16, version + 0x200 if version else 0, setup + payload_at, payload_bytes)


def inspect(path: Path) -> KernelImage:
    """Find out what a kernel file is; raises `UsageError` saying what is wrong with it and what would be right."""
    data = _content(path)
    header = SetupHeader.read(data)
    if header is not None:
        whole = header.setup_bytes + header.protected_bytes
        # The last paragraph may be partly absent: its length was rounded up to 16 bytes.
        if len(data) + 15 < whole:
            raise UsageError(f"kernel {path} is cut off: a bzImage of {whole} bytes, of which {len(data)} are there")
        release = _RELEASE.match(data, header.version_at) if header.version_at else None
        return KernelImage(path, "bzImage", release[1].decode("ascii") if release else "")
    if data[:4] == b"\x7fELF":
        return _vmlinux(path, data)
    raise UsageError(f"kernel {path} is {_described(data)}; {_EXPECTED}")


def _content(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST:
            return path.read_bytes()
    except OSError as error:
        raise UsageError(f"kernel {path}: {error.strerror}; {_EXPECTED}") from error
    if stat.S_ISREG(status.st_mode):
        raise UsageError(f"kernel {path} has {status.st_size} bytes, more than any kernel; {_EXPECTED}")
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
    raise UsageError(f"kernel {path} is {kind}; {_EXPECTED}")


def _vmlinux(path: Path, data: bytes) -> KernelImage:
    if len(data) < 64:
        raise UsageError(f"kernel {path} is cut off: an ELF file of {len(data)} bytes; {_EXPECTED}")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if data[4] != 2 or (kind, machine) != (_ELF_EXEC, _ELF_X86_64):
        raise UsageError(f"kernel {path} is an ELF file, but no x86-64 kernel; {_EXPECTED}")
    program_headers, sections = struct.unpack_from("<QQ", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    if len(data) < max(program_headers, sections + entry_size * count):
        raise UsageError(f"kernel {path} is cut off: a vmlinux whose sections end after the file; {_EXPECTED}")
    release = _BANNER.search(data)
    if release is None:
        raise UsageError(f"kernel {path} is an x86-64 program, but no Linux kernel; {_EXPECTED}")
    return KernelImage(path, "vmlinux", release[1].decode("ascii"))


def _described(data: bytes) -> str:
    if not data:
        return "empty"
    for magic, name in _OTHERS.items():
        if data.startswith(magic):
            return name
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data[:4096])
    except UnicodeDecodeError:
        return "no kernel at all"
    return "no kernel at all" if "\0" in text else "a text file"
