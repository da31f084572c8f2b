# SPDX-License-Identifier: GPL-2.0-or-later
"""Walking the capability chains of a configuration space, as QEMU and kernels do, but with an end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.errors import UsageError

_STATUS, _CAPABILITIES_LIST = 0x06, 1 << 4
_POINTER = 0x34
_END = 0x1000
_LEAST = 8
"""Bytes that QEMU's pcie_add_capability() wants of an extended capability."""
EXTENDED = 0x100
"""Where extended capabilities begin."""


class BrokenChain(UsageError):
    """A chain of capabilities that leads nowhere, or round in a circle."""


class Link(NamedTuple):
    """One capability met on the way: where, its ID and version (0 for one of the first 256 bytes)."""

    at: int
    id: int
    version: int


def capabilities(config: bytes) -> Iterator[Link]:
    """Walk the first 256 bytes. Raises `BrokenChain` for a chain that has no end or leaves its page."""
    if not config[_STATUS] & _CAPABILITIES_LIST:
        return
    at, came_from = config[_POINTER] & ~3, _POINTER
    seen: set[int] = set()
    while at:
        if at in seen:
            raise BrokenChain(f"the chain of capabilities comes back to {at:#x}, from {came_from:#x}")
        if at < 0x40:
            raise BrokenChain(f"the next pointer of the capability at {came_from:#x} leads to {at:#x}, into the header")
        seen.add(at)
        yield Link(at, config[at], 0)
        came_from, at = at, config[at + 1] & ~3


def extended(config: bytes) -> Iterator[Link]:
    """Walk the extended capabilities; raises as `capabilities`. A header of zeros ends the walk."""
    at, came_from = EXTENDED, EXTENDED
    seen: set[int] = set()
    while at and at + 4 <= len(config):
        if at in seen:
            raise BrokenChain(f"the chain of extended capabilities comes back to {at:#x}, from {came_from:#x}")
        if at < EXTENDED:
            raise BrokenChain(
                f"the next pointer of the extended capability at {came_from:#x} leads to {at:#x}, below {EXTENDED:#x}"
            )
        seen.add(at)
        header = int.from_bytes(config[at : at + 4], "little")
        if header == 0:
            return
        yield Link(at, header & 0xFFFF, header >> 16 & 0xF)
        came_from, at = at, header >> 20 & 0xFFC


def check(config: bytes) -> None:
    """Raise `BrokenChain` for chains on which QEMU's vfio client would turn for ever or abort.

    `vfio_ext_cap_max_size()` walks without looking where it was, and takes what lies up to the next capability for the
    size of one; pcie_add_capability() asserts places and sizes (hw/vfio/pci.c and hw/pci/pcie.c).
    """
    if len(config) != _END:
        raise BrokenChain(f"configuration space of {len(config)} bytes: it has {_END}")
    for _ in capabilities(config):
        pass
    links = [one.at for one in extended(config)]
    for at in links:
        behind = min([other for other in links if other > at], default=_END)
        if behind - at < _LEAST:
            raise BrokenChain(
                f"the extended capability at {at:#x} has {behind - at} bytes up to what follows it at {behind:#x}: "
                f"QEMU aborts on less than {_LEAST}"
            )
