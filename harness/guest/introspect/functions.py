# SPDX-License-Identifier: GPL-2.0-or-later
"""Every PCI function as the kernel keeps it: `struct pci_dev` (include/linux/pci.h), `struct pci_sriov` (pci.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from drgn import Object, Program, container_of

from harness.guest.introspect.memory import on_klist, subsystem, text
from harness.guest.pci import Bdf

_PCI_BRIDGES = (1, 2)
"""Header types of bridges: PCI_HEADER_TYPE_BRIDGE, PCI_HEADER_TYPE_CARDBUS (include/uapi/linux/pci_regs.h)."""


@dataclass(frozen=True)
class Sriov:
    """`struct pci_sriov` of a PF (drivers/pci/pci.h), by the names that it has there."""

    pos: int
    num_VFs: int  # noqa: N815 - the kernel's own
    total_VFs: int  # noqa: N815
    initial_VFs: int  # noqa: N815
    driver_max_VFs: int  # noqa: N815
    offset: int
    stride: int
    vf_device: int
    max_VF_buses: int  # noqa: N815
    drivers_autoprobe: bool


@dataclass(frozen=True)
class Siov:
    """What a kernel with SIOV keeps of a PF, by the names that it has there."""

    pos: int
    total_SDIs: int  # noqa: N815 - the kernel's own
    num_SDIs: int  # noqa: N815
    offset: int
    stride: int
    driver_max_SDIs: int  # noqa: N815
    max_SDI_buses: int  # noqa: N815


@dataclass(frozen=True)
class PciFunction:
    """One PCI function. `is_sriov` and `is_siov` are None where this kernel's `struct pci_dev` has no such bit.

    `references` is the kobject's reference count. `subordinate` is, of a bridge, the number of the bus behind it.
    """

    bdf: Bdf
    name: str
    vendor: int
    device: int
    driver: str | None
    is_physfn: bool
    is_virtfn: bool
    is_sriov: bool | None
    is_siov: bool | None
    is_bridge: bool
    is_busmaster: bool
    references: int
    enabled: int
    subordinate: int | None
    physfn: Bdf | None
    sriov: Sriov | None
    siov: Siov | None


def functions(program: Program) -> list[PciFunction]:
    """Read all PCI functions, in the order of their addresses; raises what drgn does, and `KernelNonsense`."""
    devices = subsystem(program).klist_devices
    found = on_klist(devices, "struct device_private", "knode_bus", "PCI functions")
    kind = program.type("struct pci_dev")
    return sorted((_function(container_of(one.device.read_(), kind, "dev")) for one in found), key=lambda it: it.bdf)


def bdf_of(pointer: Object) -> Bdf:
    """Give the address of a `struct pci_dev *`: its domain as its name has it, the rest as its fields do."""
    domain = Bdf.parse(text(pointer.dev.kobj.name)).domain
    devfn = pointer.devfn.value_()
    return Bdf(domain, pointer.bus.number.value_(), devfn >> 3 & 0x1F, devfn & 7)


def _function(pointer: Object) -> PciFunction:
    dev = pointer[0].read_()  # all of it at once: fewer reads, and of one moment
    is_physfn, is_virtfn = _flag(dev, "is_physfn") or False, _flag(dev, "is_virtfn") or False
    is_sriov, is_siov = _flag(dev, "is_sriov"), _flag(dev, "is_siov")
    has_sriov = is_sriov is not False and dev.type_.has_member("sriov")  # a union: of a VF, it is `physfn`
    return PciFunction(
        bdf=bdf_of(pointer),
        name=text(dev.dev.kobj.name),
        vendor=dev.vendor.value_(),
        device=dev.device.value_(),
        driver=text(dev.dev.driver.name) if dev.dev.driver else None,
        is_physfn=is_physfn,
        is_virtfn=is_virtfn,
        is_sriov=is_sriov,
        is_siov=is_siov,
        is_bridge=dev.hdr_type.value_() in _PCI_BRIDGES,
        is_busmaster=bool(dev.is_busmaster),
        references=dev.dev.kobj.kref.refcount.refs.counter.value_(),
        enabled=dev.enable_cnt.counter.value_(),
        subordinate=dev.subordinate.number.value_() if dev.subordinate else None,
        physfn=bdf_of(dev.physfn) if is_virtfn and has_sriov and dev.physfn else None,
        sriov=_numbers(dev.sriov, Sriov) if is_physfn and has_sriov and dev.sriov else None,
        siov=_numbers(dev.siov, Siov) if is_physfn and is_siov and dev.siov else None,
    )


def _flag(dev: Object, bit: str) -> bool | None:
    """Give a bit of `struct pci_dev`; None where this kernel has no such bit."""
    return bool(dev.member_(bit)) if dev.type_.has_member(bit) else None


Numbers = TypeVar("Numbers", Sriov, Siov)


def _numbers(pointer: Object, kind: type[Numbers]) -> Numbers:
    """Read a structure into the dataclass whose fields have the names of its members."""
    read = pointer[0].read_()
    return kind(**{name: read.member_(name).value_() for name in kind.__dataclass_fields__})
