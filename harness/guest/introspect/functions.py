# SPDX-License-Identifier: GPL-2.0-or-later
"""Every PCI function as the kernel keeps it: `struct pci_dev` (include/linux/pci.h), `struct pci_sriov` (pci.h)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drgn import Object, Program, container_of

from harness.guest.introspect.failures import CannotIntrospect
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
    """What a kernel with SIOV keeps of a PF: `struct pci_siov`, whose members are still in flux."""

    members: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        """Give a member, such as `siov["total_SDIs"]`; raises `CannotIntrospect` where there is none so called."""
        if name not in self.members:
            there = ", ".join(self.members) or "none"
            raise CannotIntrospect(f"this kernel's struct pci_siov has no number {name}, but {there}")
        return self.members[name]


@dataclass(frozen=True)
class PciFunction:
    """One PCI function. `is_sriov` and `is_siov` are None where this kernel's `struct pci_dev` has no such bit.

    `siov_pointer` is its member `siov` whatever the bits say, None where there is none, `sriov_pointer` that of a PF by
    SR-IOV. `references` is the kobject's reference count. `subordinate` is, of a bridge, the number of the bus behind.
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
    siov_pointer: int | None = None
    sriov_pointer: int | None = None


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
        sriov=_sriov(dev.sriov) if is_physfn and has_sriov and dev.sriov else None,
        siov=_siov(dev.siov) if is_physfn and is_siov and dev.siov else None,
        sriov_pointer=dev.sriov.value_() if is_physfn and has_sriov else None,
        siov_pointer=dev.siov.value_() if dev.type_.has_member("siov") else None,
    )


def _flag(dev: Object, bit: str) -> bool | None:
    """Give a bit of `struct pci_dev`; None where this kernel has no such bit."""
    return bool(dev.member_(bit)) if dev.type_.has_member(bit) else None


def _sriov(pointer: Object) -> Sriov:
    read = pointer[0].read_()
    return Sriov(**{name: read.member_(name).value_() for name in Sriov.__dataclass_fields__})


def _siov(pointer: Object) -> Siov:
    read = pointer[0].read_()
    values = {member.name: read.member_(member.name).value_() for member in read.type_.members if member.name}
    return Siov({name: value for name, value in values.items() if isinstance(value, int)})
