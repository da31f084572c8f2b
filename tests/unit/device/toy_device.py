# SPDX-License-Identifier: GPL-2.0-or-later
"""A small device, and a board in place of QEMU to plug it into."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

from harness.device.capabilities import express_endpoint, msix
from harness.device.config_space import COMMAND_MASTER, COMMAND_MEMORY, Bar, Identity
from harness.device.device import CONFIG, Device, DmaError
from harness.device.log import Kind
from harness.device.registers import Register

VENDOR, PRODUCT = 0x1AF4, 0x10F0
BAR, MSIX_BAR = 0, 2
COMMAND, EXPRESS, MSIX = 0x04, 0x40, 0x7C
"""Where Command and the toy's capabilities are."""
SCRATCH, STATUS, COUNTER = 0x00, 0x04, 0x08
FLR, MSIX_ENABLE, MSIX_MASK_ALL = 0x8000, 0x8000, 0x4000


class Toy(Device):
    """A function with a register to write, one to clear, and one for hooks; nothing happens by itself."""

    def __init__(self, *, vectors: int = 4, flr: bool = True) -> None:
        super().__init__(
            Identity(VENDOR, PRODUCT),
            [express_endpoint(flr=flr), msix(vectors, table_bar=MSIX_BAR, pba_bar=MSIX_BAR, pba_offset=0x800)],
            {
                BAR: Bar(
                    4096,
                    (
                        Register("scratch", SCRATCH, 4, rw=0xFFFFFFFF),
                        Register("status", STATUS, 4, value=0xF, w1c=0xF),
                        Register("counter", COUNTER, 4, rw=0xFFFFFFFF),
                    ),
                ),
                MSIX_BAR: Bar(4096),
            },
        )
        self.resets: list[Kind] = []

    def on_reset(self, kind: Kind) -> None:
        self.resets.append(kind)

    def pending(self) -> int:
        """Give the pending bits of all vectors."""
        return int.from_bytes(self.bars[MSIX_BAR].peek(0x800, 8), "little")


class Board:
    """Memory from 0 on, and a note of each interrupt. `before_dma` is called first, in the thread that does DMA."""

    def __init__(self, size: int = 0x10000) -> None:
        self.memory = bytearray(size)
        self.raised: list[int] = []
        self.deaf = False
        self.interrupted = threading.Event()
        self.before_dma: Callable[[int], None] = lambda _: None

    def dma_read(self, address: int, count: int) -> bytes:
        self._check(address, count)
        return bytes(self.memory[address : address + count])

    def dma_write(self, address: int, data: bytes) -> None:
        self._check(address, len(data))
        self.memory[address : address + len(data)] = data

    def interrupt(self, vector: int) -> bool:
        if not self.deaf:
            self.raised.append(vector)
            self.interrupted.set()
        return not self.deaf

    def disconnect(self) -> None:
        raise AssertionError("nobody asked for this")

    def _check(self, address: int, count: int) -> None:
        self.before_dma(address)
        if address + count > len(self.memory):
            raise DmaError(f"no memory at {address:#x}")


def enable(device: Device, *, control: int = MSIX_ENABLE) -> None:
    """Do as a driver's probe: memory, bus mastering, MSI-X."""
    write_config(device, COMMAND, COMMAND_MEMORY | COMMAND_MASTER)
    write_config(device, MSIX + 2, control)


def write_config(device: Device, offset: int, value: int) -> None:
    """Write 16 bits of configuration space as software does."""
    device.write(CONFIG, offset, struct.pack("<H", value))


def write(device: Device, offset: int, value: int, region: int = BAR) -> None:
    """Write a register of 32 bits as software does."""
    device.write(region, offset, struct.pack("<I", value))


def read(device: Device, offset: int, region: int = BAR) -> int:
    """Read a register of 32 bits as software does."""
    return int.from_bytes(device.read(region, offset, 4), "little")
