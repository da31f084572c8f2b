# SPDX-License-Identifier: GPL-2.0-or-later
"""The capabilities that a function can declare.

IDs and layouts are those of the PCI Express Base Specification, chapter 7, and of Linux's
include/uapi/linux/pci_regs.h; the section is named at each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from harness.device.registers import LayoutError, Register

MSIX = 0x11
"""Capability ID of MSI-X."""
SIOV = 0x38
"""Extended capability ID of Scalable I/O Virtualization (PCI Code and ID Assignment Specification, rev 1.18)."""
SRIOV, SRIOV_SIZE = 0x10, 0x40
SIOV_SIZE = 0x10
_EXPRESS_SIZE = 0x3C  # version 2, 7.5.3
_HEADER_ALL_ONES = 0xFFFFFFFF


@dataclass(frozen=True)
class Capability:
    """One capability structure: its registers, offsets counted from its start, where its header is.

    `version` is that of an extended capability, None for one of the first 256 bytes. `at` is its place; None leaves
    that to the layout, which puts it behind the one declared before it. `following` is its next pointer, where it is to
    point elsewhere than to the one declared after it. `header` is a whole extended header, where that is no true one.
    """

    name: str
    id: int
    size: int
    registers: tuple[Register, ...] = ()
    version: int | None = None
    at: int | None = None
    following: int | None = None
    header: int | None = None

    @property
    def is_extended(self) -> bool:
        """Whether it lies at 0x100 or above."""
        return self.version is not None

    @property
    def header_size(self) -> int:
        """Bytes of its header."""
        return 4 if self.is_extended else 2

    def check(self) -> None:
        """Raise `LayoutError` for a capability that cannot be."""
        last_id = 0xFFFF if self.is_extended else 0xFF
        if not 0 <= self.id <= last_id or not 0 <= (self.version or 0) <= 0xF:
            raise LayoutError(f"capability {self.name}: ID {self.id:#x}, version {self.version} do not fit its header")
        if self.size < self.header_size:
            raise LayoutError(f"capability {self.name} of {self.size:#x} bytes: its header has {self.header_size}")

    def placed(self, at: int) -> Capability:
        """Give the same capability at a place of its own."""
        return replace(self, at=at)

    def pointing_to(self, following: int) -> Capability:
        """Give the same capability with a next pointer of its own."""
        return replace(self, following=following)


def express_endpoint(*, integrated: bool = False, flr: bool = True) -> Capability:
    """PCI Express capability of an endpoint, or of a Root Complex Integrated Endpoint (7.5.3).

    `flr`: function-level reset (7.5.3.3, Device Capabilities bit 28).
    """
    kind = 0x9 if integrated else 0x0  # Device/Port Type
    link = () if integrated else (
        Register("link_capabilities", 0x0C, 4, 0x11),  # 2.5 GT/s, x1
        Register("link_control", 0x10, 2, rw=0x0FFB & ~0x0030),
        Register("link_status", 0x12, 2, 0x11),
    )  # fmt: skip
    return Capability(
        "PCI Express", 0x10, _EXPRESS_SIZE,
        (
            Register("express_capabilities", 0x02, 2, 2 | kind << 4),
            Register("device_capabilities", 0x04, 4, 1 << 15 | flr << 28),  # role-based error reporting, FLR
            Register("device_control", 0x08, 2, 0x2810, rw=0xFFFF),
            Register("device_status", 0x0A, 2, w1c=0x000F),
            *link,
            Register("device_capabilities_2", 0x24, 4, 0x1F),  # completion timeout: disable, all ranges
            Register("device_control_2", 0x28, 2, rw=0x001F),
        ),
    )  # fmt: skip


def msix(vectors: int, *, table_bar: int, table_offset: int = 0, pba_bar: int, pba_offset: int) -> Capability:
    """MSI-X: its table and its pending bits lie in BARs (7.7.2). QEMU itself keeps the table."""
    if not 1 <= vectors <= 2048:
        raise LayoutError(f"MSI-X with {vectors} vectors: a function has 1 to 2048")
    for name, bar, offset in (("table", table_bar, table_offset), ("pending bits", pba_bar, pba_offset)):
        if not 0 <= bar <= 5 or offset % 8:
            raise LayoutError(
                f"MSI-X {name} at {offset:#x} in BAR {bar}: BARs are 0 to 5, and it is aligned to 8 bytes"
            )
    return Capability(
        "MSI-X", MSIX, 12,
        (
            Register("msix_control", 0x02, 2, vectors - 1, rw=0xC000),  # enable, mask all
            Register("msix_table", 0x04, 4, table_offset | table_bar),
            Register("msix_pba", 0x08, 4, pba_offset | pba_bar),
        ),
    )  # fmt: skip


def serial_number(value: int) -> Capability:
    """Device Serial Number: 64 bits (7.9.3)."""
    return Capability("Device Serial Number", 0x03, 12, (Register("serial_number", 4, 8, value),), version=1)


def ats(queue_depth: int = 0) -> Capability:
    """Address Translation Services (10.5.1): `queue_depth` 0 stands for 32 invalidations."""
    return Capability(
        "ATS", 0x0F, 8,
        (Register("ats_capability", 4, 2, queue_depth), Register("ats_control", 6, 2, rw=0x801F)), version=1,
    )  # fmt: skip


def pasid(width: int = 20) -> Capability:
    """Process Address Space ID (7.8.9) of `width` bits."""
    return Capability(
        "PASID", 0x1B, 8,
        (Register("pasid_capability", 4, 2, width << 8), Register("pasid_control", 6, 2, rw=0x0007)), version=1,
    )  # fmt: skip


def sriov(*, total_vfs: int, first_vf_offset: int, vf_stride: int, id_: int = SRIOV) -> Capability:
    """Single Root I/O Virtualization (9.3.3), of VFs that have no BARs. No VF ever appears: nothing here makes one."""
    return Capability(
        "SR-IOV", id_, SRIOV_SIZE,
        (
            Register("sriov_capabilities", 0x04, 4),
            Register("sriov_control", 0x08, 2, rw=0x001F),
            Register("sriov_status", 0x0A, 2),
            Register("sriov_initial_vfs", 0x0C, 2, total_vfs),
            Register("sriov_total_vfs", 0x0E, 2, total_vfs),
            Register("sriov_num_vfs", 0x10, 2, rw=0xFFFF),
            Register("sriov_dependency_link", 0x12, 1),
            Register("sriov_first_vf_offset", 0x14, 2, first_vf_offset),
            Register("sriov_vf_stride", 0x16, 2, vf_stride),
            Register("sriov_vf_device_id", 0x1A, 2, 0x0039),
            Register("sriov_supported_page_sizes", 0x1C, 4, 0x553),
            Register("sriov_system_page_size", 0x20, 4, 1, rw=0xFFFFFFFF),
        ),
        version=1,
    )  # fmt: skip


def siov(
    *, total_sdis: int, first_sdi_offset: int, sdi_stride: int, status: int = 0, capabilities: int = 0, version: int = 1
) -> Capability:
    """Scalable I/O Virtualization, every field free: also values that no sound device has.

    The layout is that of pciutils and of Linux's RFC of June 2026; software writes none of its fields.
    """
    return Capability(
        "SIOV", SIOV, SIOV_SIZE,
        (
            Register("siov_capabilities", 0x04, 4, capabilities),
            Register("siov_total_sdis", 0x08, 2, total_sdis),
            Register("siov_status", 0x0B, 1, status),
            Register("siov_first_sdi_offset", 0x0C, 2, first_sdi_offset),
            Register("siov_sdi_stride", 0x0E, 2, sdi_stride),
        ),
        version=version,
    )  # fmt: skip


def dvsec(vendor: int, id_: int, registers: Iterable[Register] = (), *, size: int, revision: int = 0) -> Capability:
    """Designated Vendor-Specific (7.9.6), `size` bytes in all; its registers begin at 0x0a."""
    return Capability(
        f"DVSEC {vendor:04x}:{id_:x}", 0x23, size,
        (
            Register("dvsec_header_1", 4, 4, vendor | revision << 16 | size << 20),
            Register("dvsec_header_2", 8, 2, id_),
            *registers,
        ),
        version=1,
    )  # fmt: skip


def intel_siov_dvsec(capabilities: int = 1, supported_page_sizes: int = 1) -> Capability:
    """Intel's Scalable IOV DVSEC of 2018, which the capability 0x38 followed: DVSEC ID 5, capabilities at 0x14.

    Linux's intel-iommu driver looked for it (siov_find_pci_dvsec(), until Linux 6.3). Bit 0 of the capabilities is IMS.
    """
    return dvsec(
        0x8086, 5,
        (
            Register("intel_siov_supported_page_sizes", 0x0C, 4, supported_page_sizes),
            Register("intel_siov_system_page_size", 0x10, 4, 1, rw=0xFFFFFFFF),
            Register("intel_siov_capabilities", 0x14, 4, capabilities),
        ),
        size=0x18,
    )  # fmt: skip


def vendor_specific(body: bytes) -> Capability:
    """Vendor-specific capability of the first 256 bytes (7.9.4): a length byte, then `body`."""
    size = 3 + len(body)
    return Capability(
        "Vendor-specific", 0x09, size,
        (Register("vendor_specific_length", 2, 1, size), *_body("vendor_specific", 3, body)),
    )  # fmt: skip


def vsec(id_: int, registers: Iterable[Register] = (), *, size: int, revision: int = 0) -> Capability:
    """Vendor-Specific Extended Capability (7.9.5), `size` bytes in all; its registers begin at 8."""
    header = Register("vsec_header", 4, 4, id_ | revision << 16 | size << 20)
    return Capability(f"VSEC {id_:x}", 0x0B, size, (header, *registers), version=1)


def raw(id_: int, body: bytes, *, version: int | None = None, name: str | None = None) -> Capability:
    """Any capability: `body` follows its header (2 bytes, or 4 with a `version`), read-only."""
    name = name or f"raw {id_:#x}"
    start = 2 if version is None else 4
    return Capability(name, id_, start + len(body), tuple(_body(_word(name), start, body)), version=version)


def all_ones() -> Capability:
    """An extended header of all ones, as a device gives that does not answer; what it points to is read as zero."""
    return Capability("all ones", 0xFFFF, 4, version=0xF, header=_HEADER_ALL_ONES)


def _body(name: str, offset: int, body: bytes) -> tuple[Register, ...]:
    return (Register(f"{name}_body", offset, len(body), int.from_bytes(body, "little")),) if body else ()


def _word(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


Place = Literal["first", "middle", "last"]
"""Where in the chain of extended capabilities one stands."""
