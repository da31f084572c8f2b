# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cases on SIOV have in common: the capability as a kernel's users see it, and who knows SIOV."""

from __future__ import annotations

import struct
from typing import NamedTuple

from harness import chain
from harness.device.capabilities import SIOV, SIOV_SIZE
from harness.device.registers import LayoutError
from harness.errors import GuestFailure
from harness.guest.pci import Function
from harness.machine.machine import Machine

_LAYOUT = struct.Struct("<IIHBBHH")


class Capability(NamedTuple):
    """The capability's fields, in their order in configuration space."""

    header: int
    capabilities: int
    total_sdis: int
    reserved: int
    status: int
    first_sdi_offset: int
    sdi_stride: int


def extended_chain(function: Function) -> bytes:
    """Read configuration space in the guest as far as the chains of these devices go: each dword takes 0.1 ms."""
    return bytes(chain.EXTENDED) + function.config(chain.EXTENDED, 0x100)


def capability(function: Function) -> Capability | None:
    """Read the SIOV capability in the guest; None where walking the chain meets none."""
    config = extended_chain(function)
    try:
        for link in chain.extended(config):
            if link.id == SIOV:
                return Capability._make(_LAYOUT.unpack(config[link.at : link.at + SIOV_SIZE]))
    except (LayoutError, struct.error) as error:
        raise GuestFailure(f"{function.bdf}: {error}") from error
    return None


def the_capability(function: Function) -> Capability:
    """Read the SIOV capability, which must be there."""
    found = capability(function)
    if found is None:
        raise GuestFailure(f"{function.bdf} has no SIOV capability")
    return found


def sriov_attributes(function: Function) -> set[str]:
    """Give the names of its `sriov_*` attributes."""
    return {name for name in function.attributes() if name.startswith("sriov_")}


def knows_siov(machine: Machine) -> bool:
    """Tell whether the guest's kernel has SIOV built in: then it may reserve bus numbers."""
    return not machine.spec.parts.kernel.missing(frozenset({"PCI_SIOV"}))
