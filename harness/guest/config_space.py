# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration space of a function as a guest reads it: its capability lists, and the SR-IOV capability by name.

Offsets and bits are those of include/uapi/linux/pci_regs.h, and of the PCI Express Base Specification, 9.3.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from harness import chain
from harness.chain import BrokenChain, Link
from harness.errors import GuestFailure

EXPRESS, MSIX = 0x10, 0x11
"""Capability IDs: PCI_CAP_ID_EXP, PCI_CAP_ID_MSIX."""
ARI, SRIOV = 0x0E, 0x10
"""Extended capability IDs: PCI_EXT_CAP_ID_ARI, PCI_EXT_CAP_ID_SRIOV."""
COMMAND = 0x04
"""Where the Command register lies: PCI_COMMAND."""
MEMORY_SPACE, BUS_MASTER = 1 << 1, 1 << 2
"""Bits of the Command register: PCI_COMMAND_MEMORY, PCI_COMMAND_MASTER."""
VF_ENABLE, VF_MSE, ARI_HIERARCHY = 1 << 0, 1 << 3, 1 << 4
"""Bits of SR-IOV Control: PCI_SRIOV_CTRL_VFE, _MSE, _ARI."""
SRIOV_CONTROL, SRIOV_NUM_VFS = 0x08, 0x10
"""Where in the SR-IOV capability the registers lie that tests write: PCI_SRIOV_CTRL, PCI_SRIOV_NUM_VF."""
_SRIOV_REGISTERS = struct.Struct("<4x I HH HHHB x HH 2xH II 6I")
_SRIOV_NAMES = (
    "capabilities", "control", "status", "initial_vfs", "total_vfs", "num_vfs", "dependency_link", "first_vf_offset",
    "vf_stride", "vf_device_id", "supported_page_sizes", "system_page_size",
)  # fmt: skip


@dataclass(frozen=True)
class SriovCapability:
    """The SR-IOV extended capability; `at` is where it begins, the rest its registers."""

    at: int
    capabilities: int
    control: int
    status: int
    initial_vfs: int
    total_vfs: int
    num_vfs: int
    dependency_link: int
    first_vf_offset: int
    vf_stride: int
    vf_device_id: int
    supported_page_sizes: int
    system_page_size: int
    vf_bars: tuple[int, ...]

    @classmethod
    def parse(cls, data: bytes, at: int) -> Self:
        """Read its registers from a configuration space; raises `struct.error` where that ends too early."""
        registers: tuple[int, ...] = _SRIOV_REGISTERS.unpack_from(data, at)
        numbers, vf_bars = registers[:-6], registers[-6:]
        return cls(at, **dict(zip(_SRIOV_NAMES, numbers, strict=True)), vf_bars=vf_bars)

    @property
    def vf_enable(self) -> bool:
        """VF Enable."""
        return bool(self.control & VF_ENABLE)

    @property
    def vf_mse(self) -> bool:
        """VF Memory Space Enable."""
        return bool(self.control & VF_MSE)

    @property
    def ari(self) -> bool:
        """ARI Capable Hierarchy."""
        return bool(self.control & ARI_HIERARCHY)


@dataclass(frozen=True)
class ConfigSpace:
    """The bytes of a function's configuration space, which are read one register after another.

    Raises `GuestFailure` for what makes no sense.
    """

    data: bytes

    @property
    def command(self) -> int:
        """The Command register."""
        return self.word(COMMAND)

    def word(self, at: int) -> int:
        """Give the 16 bits at an offset."""
        if at + 2 > len(self.data):
            raise GuestFailure(f"configuration space ends at {len(self.data):#x}, before {at + 2:#x}")
        return int.from_bytes(self.data[at : at + 2], "little")

    @property
    def capabilities(self) -> list[Link]:
        """Walk the capabilities of the first 256 bytes."""
        return self._walked(chain.capabilities)

    @property
    def extended(self) -> list[Link]:
        """Walk the extended capabilities."""
        return self._walked(chain.extended)

    def capability(self, kind: int) -> int | None:
        """Tell where the first capability with this ID begins."""
        return next((link.at for link in self.capabilities if link.id == kind), None)

    def extended_capability(self, kind: int) -> int | None:
        """Tell where the first extended capability with this ID begins."""
        return next((link.at for link in self.extended if link.id == kind), None)

    @property
    def sriov(self) -> SriovCapability:
        """The SR-IOV capability."""
        at = self.extended_capability(SRIOV)
        if at is None:
            raise GuestFailure("the function has no SR-IOV capability")
        try:
            return SriovCapability.parse(self.data, at)
        except struct.error as error:
            raise GuestFailure(f"the SR-IOV capability at {at:#x} leaves configuration space") from error

    def _walked(self, walk: Callable[[bytes], Iterator[Link]]) -> list[Link]:
        if len(self.data) < chain.EXTENDED:
            raise GuestFailure(f"configuration space of {len(self.data)} bytes: it has {chain.EXTENDED} at least")
        try:
            return list(walk(self.data))
        except BrokenChain as error:
            raise GuestFailure(str(error)) from error
