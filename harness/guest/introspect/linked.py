# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that does not say where it lies: it is taken to lie where it was linked to, which its memory then proves."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from harness.guest.introspect.failures import CannotIntrospect

_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym (include/uapi/linux/elf.h)
_NEEDED = ("init_top_pgt", "_stext", "linux_banner")
"""`init_top_pgt` is what x86-64 calls its swapper_pg_dir (arch/x86/include/asm/pgtable_64.h)."""
_BANNER_LIMIT = 512
_BANNER = "Linux version "


@dataclass(frozen=True)
class Linked:
    """What a vmlinux says of itself: its notes for debuggers, and its banner with the address where that lies."""

    vmcoreinfo: str
    banner: bytes
    address: int


def linked(vmlinux: Path) -> Linked:
    """Say what a kernel would tell in its vmcoreinfo, had it not been moved; raises `CannotIntrospect`."""
    try:
        with vmlinux.open("rb") as stream:
            elf = ELFFile(stream)
            symbols = _symbols(elf)
            banner = _at(elf, symbols["linux_banner"])
            build_id = _build_id(elf)
    except (OSError, ELFError, LookupError, ValueError, struct.error) as error:
        raise CannotIntrospect(f"{vmlinux} does not say where its kernel lies: {error}") from error
    release = banner.decode("ascii", errors="replace").removeprefix(_BANNER).partition(" ")[0]
    # Names and order as in crash_save_vmcoreinfo_init() (kernel/vmcore_info.c) and arch/x86/kernel/vmcore_info_64.c.
    told = (
        f"OSRELEASE={release}", f"BUILD-ID={build_id}", "PAGESIZE=4096", f"SYMBOL(_stext)={symbols['_stext']:x}",
        "NUMBER(phys_base)=0", f"SYMBOL(swapper_pg_dir)={symbols['init_top_pgt']:x}", "NUMBER(pgtable_l5_enabled)=0",
        "KERNELOFFSET=0",
    )  # fmt: skip
    return Linked("\n".join(told) + "\n", banner, symbols["linux_banner"])


def _symbols(elf: ELFFile) -> Mapping[str, int]:
    """Find the needed symbols. Not by pyelftools' own search, which takes seconds for the symbols of a kernel."""
    table = elf.get_section_by_name(".symtab")
    if table is None:
        raise LookupError("it has no symbols")
    names = elf.get_section(table["sh_link"]).data()
    # A name may be the tail of a longer one: the linker keeps it once.
    wanted = {match.start(): name for name in _NEEDED for match in re.finditer(rf"{name}\0".encode(), names)}
    return {wanted[name]: value for name, _, _, _, value, _ in _SYMBOL.iter_unpack(table.data()) if name in wanted}


def _at(elf: ELFFile, address: int) -> bytes:
    """Read the text that the file has for an address."""
    for segment in elf.iter_segments("PT_LOAD"):
        start = address - segment["p_vaddr"]
        if 0 <= start < segment["p_filesz"]:
            elf.stream.seek(segment["p_offset"] + start)
            return bytes(elf.stream.read(_BANNER_LIMIT)).split(b"\0")[0]
    raise LookupError("its banner is in no segment")


def _build_id(elf: ELFFile) -> str:
    sections = [section for section in elf.iter_sections() if isinstance(section, NoteSection)]
    for note in (note for section in sections for note in section.iter_notes()):
        if (note["n_name"], note["n_type"]) == ("GNU", "NT_GNU_BUILD_ID"):
            return str(note["n_desc"])
    raise LookupError("it has no build ID")
