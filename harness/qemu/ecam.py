# SPDX-License-Identifier: GPL-2.0-or-later
"""What firmware does to a q35 machine before a kernel comes, over qtest: ECAM, bus numbers, windows, BARs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.qemu.qtest import Qtest, Size

ECAM = 0xB0000000
"""Where configuration space is mapped (PCI Express Base Specification, 7.2.2): a page for each function."""
_PCIEXBAR, _PCIEXBAR_ENABLE = 0x60, 1  # of the host bridge: hw/pci-host/q35.c, MCH_HOST_BRIDGE_PCIEXBAR
_CONFIG_ADDRESS, _CONFIG_DATA = 0xCF8, 0xCFC
_MMIO, _WINDOW = 0xE0000000, 1 << 22
"""Where BARs are placed: each root port has a window of 4 MiB."""
_COMMAND, _BAR_0, _BUSES, _MEMORY_WINDOW = 0x04, 0x10, 0x18, 0x20
COMMAND_MEMORY, COMMAND_MASTER = 2, 4


@dataclass(frozen=True)
class EcamFunction:
    """A function's configuration space, through memory."""

    qtest: Qtest
    routing_id: int

    @property
    def address(self) -> int:
        """Where its configuration space is mapped."""
        return ECAM + (self.routing_id << 12)

    def read(self, offset: int, size: Size = 4) -> int:
        """Read configuration space with one access."""
        return self.qtest.read(self.address + offset, size)

    def write(self, offset: int, value: int, size: Size = 4) -> None:
        """Write configuration space with one access."""
        self.qtest.write(self.address + offset, value, size)

    def config(self) -> bytes:
        """Read all 4096 bytes; QEMU reads a dword at a time."""
        return self.qtest.read_bytes(self.address, 4096)

    def enable(self, command: int = COMMAND_MEMORY | COMMAND_MASTER) -> None:
        """Let it answer to its BARs and do DMA."""
        self.write(_COMMAND, command, 2)

    def bar_size(self, index: int) -> int:
        """Say how large a memory BAR is, by writing ones to it (7.5.1.2.1); it stays as it was. 0 without one."""
        place = _BAR_0 + 4 * index
        old = self.read(place)
        self.write(place, 0xFFFFFFFF)
        mask = self.read(place)
        self.write(place, old)
        return -(mask & ~0xF) & 0xFFFFFFFF

    def place_bar(self, index: int, address: int) -> None:
        """Put a memory BAR at an address."""
        self.write(_BAR_0 + 4 * index, address & 0xFFFFFFFF)
        if self.read(_BAR_0 + 4 * index) & 0x4:
            self.write(_BAR_0 + 4 * index + 4, address >> 32)


class Board:
    """A q35 machine whose root ports have bus numbers and windows, so that what is behind them can be reached."""

    def __init__(self, qtest: Qtest) -> None:
        self.qtest = qtest
        for offset, value in ((_PCIEXBAR, ECAM | _PCIEXBAR_ENABLE), (_PCIEXBAR + 4, 0)):
            qtest.port_out(_CONFIG_ADDRESS, 1 << 31 | offset)
            qtest.port_out(_CONFIG_DATA, value)

    def function(self, bus: int, device: int = 0, function: int = 0) -> EcamFunction:
        """Give a function by its address."""
        return EcamFunction(self.qtest, bus << 8 | device << 3 | function)

    def open_port(self, device: int, bus: int) -> None:
        """Give the root port at `device` of bus 0 a bus number and a window, in which `mmio` then lies."""
        port = self.function(0, device)
        start = self.mmio(bus)
        port.write(_BUSES, bus << 16 | bus << 8)
        port.write(_MEMORY_WINDOW, start + _WINDOW - 1 & 0xFFF00000 | start >> 16)
        port.enable()

    @staticmethod
    def mmio(bus: int) -> int:
        """Give the first address of the window of a bus."""
        return _MMIO + bus * _WINDOW

    def place_bars(self, function: EcamFunction) -> dict[int, int]:
        """Place all memory BARs of a function in its bus's window and enable them; gives their addresses."""
        free = self.mmio(function.routing_id >> 8)
        placed = {}
        index = 0
        sizes: list[tuple[int, int]] = []
        while index < 6:
            flags = function.read(_BAR_0 + 4 * index)
            size = 0 if flags & 0x1 else function.bar_size(index)
            if size:
                sizes.append((size, index))
            index += 2 if size and flags & 0x4 else 1
        if sum(size for size, _ in sizes) > _WINDOW:
            raise ValueError(f"BARs of {sum(size for size, _ in sizes):#x} bytes: a window has {_WINDOW:#x}")
        for size, index in sorted(sizes, reverse=True):  # the largest first: then each is aligned to its size
            function.place_bar(index, free)
            placed[index] = free
            free += size
        function.enable()
        return placed
