# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cases on SIOV have in common: the capability as a kernel's users see it, and who knows SIOV."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from siov_model import Sdis

from harness import chain
from harness.device.capabilities import SIOV, SIOV_SIZE
from harness.device.registers import LayoutError
from harness.device.siov import SiovDevice
from harness.errors import GuestFailure
from harness.guest.guest import Guest
from harness.guest.introspect.failures import CannotIntrospect
from harness.guest.pci import Bdf, Function
from harness.machine.machine import Machine

if TYPE_CHECKING:
    from harness.guest.introspect.functions import PciFunction
    from harness.guest.introspect.state import KernelState

BEYOND_ITS_BUS = {"total_sdis": 512, "first_sdi_offset": 256, "sdi_stride": 1}
"""SDIs whose routing IDs lie on the two buses after the PF's."""
PCI_BRIDGE = 0x0604
"""Class and subclass: PCI_CLASS_BRIDGE_PCI (include/linux/pci_ids.h)."""
BUS_NUMBERS = 0x18
"""Primary, Secondary and Subordinate Bus Number of a bridge (PCI-to-PCI Bridge Architecture Specification, 3.2.5)."""
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


def declare(guest: Guest, pf: Function, device: SiovDevice, sdis: Sdis, status: int = 0) -> None:
    """Have the device say something else of its SDIs, and the kernel find it anew."""
    pf.remove()
    say(device, sdis)
    device.config["siov_status"] = status
    guest.rescan()


def say(device: SiovDevice, sdis: Sdis) -> None:
    """Have the device say something else of its SDIs, to whoever reads the capability from now on."""
    config = device.config
    config["siov_total_sdis"], config["siov_first_sdi_offset"], config["siov_sdi_stride"] = sdis


def kept(introspection: KernelState, function: Function) -> PciFunction:
    """Give what the kernel itself keeps of a function, which it must know to tell PFs by SR-IOV from those by SIOV."""
    found = next((one for one in introspection.functions() if one.bdf == function.bdf), None)
    if found is None:
        raise GuestFailure(f"the kernel keeps no function {function.bdf}")
    for bit in ("is_sriov", "is_siov"):
        if getattr(found, bit) is None:
            raise CannotIntrospect(f"this kernel's struct pci_dev has no bit {bit}, by which a PF with SIOV is known")
    return found


def pointer(introspection: KernelState, function: Function) -> int:
    """Give where the kernel keeps what it does of the SDIs of a function, which must be a PF by SIOV."""
    found = kept(introspection, function)
    if found.siov is None or not found.siov_pointer:
        raise GuestFailure(f"the kernel keeps nothing of the SDIs of {function.bdf}")
    return found.siov_pointer


def found_without_numbers(guest: Guest) -> tuple[Function, Function]:
    """Have the kernel find the one port with a function behind it anew, without bus numbers: it is to give it some.

    Gives the port, and the function.
    """
    (port,) = {one.upstream for one in guest.functions() if one.upstream is not None}
    port.write_config(BUS_NUMBERS, bytes(3))
    port.remove()
    guest.rescan()
    (function,) = [one for one in guest.functions() if one.upstream == port]
    return port, function


def bridges(guest: Guest) -> dict[Bdf, tuple[int, int, int]]:
    """Give the bus numbers of each bridge: primary, secondary, subordinate."""
    return {one.bdf: one.buses for one in guest.functions() if one.class_code >> 8 == PCI_BRIDGE}


def knows_siov(machine: Machine) -> bool:
    """Tell whether the guest's kernel has SIOV built in: then it may reserve bus numbers."""
    return not machine.spec.parts.kernel.missing(frozenset({"PCI_SIOV"}))
