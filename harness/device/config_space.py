# SPDX-License-Identifier: GPL-2.0-or-later
"""A function's configuration space, laid out from what is declared, and refused where it cannot be.

Header and BARs: PCI Express Base Specification, 7.5.1. Names of its registers are those of Linux's pci_regs.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness import chain
from harness.chain import BrokenChain
from harness.device import layout
from harness.device.capabilities import Capability
from harness.device.layout import Placed
from harness.device.registers import Bank, LayoutError, Register

_BAR_0 = 0x10
_CAPABILITIES_LIST = 1 << 4  # in Status
_BARS = 6
COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER = 1, 2, 4


@dataclass(frozen=True)
class Identity:
    """Who a function says that it is. `class_code` has 24 bits: class, subclass, programming interface."""

    vendor_id: int
    device_id: int
    class_code: int = 0xFF0000
    """Unassigned class: no driver takes it by its class."""
    revision: int = 0
    subsystem_vendor_id: int = 0
    subsystem_id: int = 0


@dataclass(frozen=True)
class Bar:
    """A BAR of `size` bytes, a power of two, and the registers in it. One of 64 bits takes the BAR behind it too."""

    size: int
    registers: tuple[Register, ...] = ()
    width: Literal[32, 64] = 32
    prefetchable: bool = False
    kind: Literal["memory", "io"] = "memory"

    @property
    def flags(self) -> int:
        """The read-only low bits of its register."""
        return 1 if self.kind == "io" else (self.width == 64) << 2 | self.prefetchable << 3

    def check(self, index: int, others: Iterable[int]) -> None:
        """Raise `LayoutError` for a BAR that no function can have at `index`, beside `others`."""
        least = 4 if self.kind == "io" else 16
        if self.size < least or self.size & (self.size - 1):
            raise LayoutError(f"BAR {index} of {self.size:#x} bytes: its size is a power of two, {least} at least")
        if self.kind == "io" and (self.width == 64 or self.size > 256):
            raise LayoutError(f"BAR {index}: an I/O BAR has 32 bits and at most 256 bytes")
        if self.size > 1 << self.width - 1:
            more = "needs width=64" if self.width == 32 else "is larger than any BAR"
            raise LayoutError(f"BAR {index} of {self.size:#x} bytes {more}")
        if not 0 <= index < _BARS or (self.width == 64 and (index == _BARS - 1 or index + 1 in others)):
            raise LayoutError(f"BAR {index} of {self.width} bits: BARs are 0 to 5, one of 64 bits takes two of them")


class ConfigSpace(Bank):
    """Configuration space with type 0 header, BARs and capabilities, whose places it chose.

    Raises `LayoutError` for what overlaps, points off its page or to itself, or does not fit.
    """

    def __init__(
        self, identity: Identity, capabilities: Sequence[Capability] = (), bars: Mapping[int, Bar] | None = None
    ) -> None:
        bars = bars or {}
        self.capabilities: tuple[Placed, ...] = tuple(layout.placed(capabilities))
        first = next((one.at for one in self.capabilities if not one.capability.is_extended), 0)
        super().__init__(layout.END, header(identity, first), "configuration space")
        for index, bar in bars.items():
            bar.check(index, set(bars) - {index})
            rw = ~(bar.size - 1) & (1 << bar.width) - 1
            self.declare(Register(f"bar_{index}", _BAR_0 + 4 * index, bar.width // 8, bar.flags, rw))
        for register in list(layout.registers(self.capabilities, [register.name for register in self.registers])):
            self.declare(register)
        try:
            chain.check(self.peek(0, self.size))
        except BrokenChain as broken:
            raise LayoutError(str(broken)) from broken
        self._check_msix(bars)

    @property
    def has_msix(self) -> bool:
        """Whether MSI-X was declared with its registers, by `capabilities.msix`: raw bytes are nothing to act upon."""
        return "msix_control" in self._registers

    def has(self, id_: int, *, extended: bool = True) -> bool:
        """Tell whether a capability of this ID was declared."""
        return any(one.capability.id == id_ and one.capability.is_extended == extended for one in self.capabilities)

    def find(self, id_: int, *, extended: bool = True) -> int:
        """Give where the first capability of an ID is; raises `LookupError` where none was declared."""
        for one in self.capabilities:
            if one.capability.id == id_ and one.capability.is_extended == extended:
                return one.at
        raise LookupError(f"no {'extended ' if extended else ''}capability {id_:#x} is declared")

    def _check_msix(self, bars: Mapping[int, Bar]) -> None:
        if not self.has_msix:
            return
        vectors = (self["msix_control"] & 0x7FF) + 1
        extents = []
        for name, length in (("msix_table", 16 * vectors), ("msix_pba", 8 * -(-vectors // 64))):
            bar, offset = self[name] & 7, self[name] & ~7
            if bar not in bars or bars[bar].kind == "io" or offset + length > bars[bar].size:
                raise LayoutError(f"{name} of {length:#x} bytes at {offset:#x} lies in no memory BAR {bar}")
            extents.append((bar, offset, offset + length))
        (bar, start, end), (pba_bar, pba_start, pba_end) = extents
        if bar == pba_bar and start < pba_end and pba_start < end:
            raise LayoutError(f"MSI-X table and pending bits overlap in BAR {bar}")


def header(identity: Identity, first_capability: int) -> Iterable[Register]:
    """Give the registers of a type 0 header, but for its BARs."""
    yield Register("vendor_id", 0x00, 2, identity.vendor_id)
    yield Register("device_id", 0x02, 2, identity.device_id)
    yield Register("command", 0x04, 2, rw=0x0547)  # I/O, memory, master, parity, SERR#, INTx disable
    yield Register("status", 0x06, 2, _CAPABILITIES_LIST if first_capability else 0, w1c=0xF900)
    yield Register("revision_id", 0x08, 1, identity.revision)
    yield Register("class_code", 0x09, 3, identity.class_code)
    yield Register("cache_line_size", 0x0C, 1, rw=0xFF)
    yield Register("latency_timer", 0x0D, 1)
    yield Register("header_type", 0x0E, 1)
    yield Register("bist", 0x0F, 1)
    yield Register("subsystem_vendor_id", 0x2C, 2, identity.subsystem_vendor_id)
    yield Register("subsystem_id", 0x2E, 2, identity.subsystem_id)
    yield Register("capability_pointer", 0x34, 1, first_capability)
    yield Register("interrupt_line", 0x3C, 1, rw=0xFF)
    yield Register("interrupt_pin", 0x3D, 1)
