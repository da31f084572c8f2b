# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel file is: a bzImage or a vmlinux, whole, and of which release."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError

_EXPECTED = "expected a bzImage or a vmlinux for x86-64"
_RELEASE = re.compile(rb"Linux version ([\x21-\x7e]{1,64}) ")
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
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise UsageError(f"kernel {path} is a folder; {_EXPECTED}") from error
    except OSError as error:
        raise UsageError(f"kernel {path}: {error.strerror}; {_EXPECTED}") from error
    header = SetupHeader.read(data)
    if header is not None:
        whole = header.setup_bytes + header.protected_bytes
        # The last paragraph may be partly absent: its length was rounded up to 16 bytes.
        if len(data) + 15 < whole:
            raise UsageError(f"kernel {path} is cut off: a bzImage of {whole} bytes, of which {len(data)} are there")
        return KernelImage(path, "bzImage", _bzimage_release(data, header))
    if data[:4] == b"\x7fELF":
        return _vmlinux(path, data)
    raise UsageError(f"kernel {path} is {_described(data)}; {_EXPECTED}")


def _bzimage_release(data: bytes, header: SetupHeader) -> str:
    if not header.version_at:
        return ""
    text = data[header.version_at : header.version_at + 128].partition(b"\0")[0]
    return text.decode("ascii", errors="replace").partition(" ")[0]


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
    release = _RELEASE.search(data)
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
        data[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(data), 4096) - 4:
            return "no kernel at all"
    return "no kernel at all" if b"\0" in data[:4096] else "a text file"
