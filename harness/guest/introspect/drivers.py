# SPDX-License-Identifier: GPL-2.0-or-later
"""The drivers on the PCI bus, and what they put into `struct pci_driver` for SR-IOV (include/linux/pci.h)."""

from __future__ import annotations

from dataclasses import dataclass

from drgn import Object, Program, container_of

from harness.guest.introspect.memory import array_text, on_klist, subsystem, symbol, text


@dataclass(frozen=True)
class PciDriver:
    """A driver, by its name in sysfs; `module` is the module that it is in, None where it is built in.

    `sriov_configure` is the symbol behind that member; None where the driver has none, and the bare address where the
    debug information does not know it: it is of the kernel alone, not of modules.
    """

    name: str
    module: str | None
    sriov_configure: str | None


def drivers(program: Program) -> list[PciDriver]:
    """Read all drivers that are registered, in the order of their names; raises as `functions`."""
    registered = subsystem(program).klist_drivers
    found = on_klist(registered, "struct driver_private", "knode_bus", "PCI drivers")
    kind = program.type("struct pci_driver")
    return sorted((_driver(container_of(one.driver.read_(), kind, "driver")) for one in found), key=lambda it: it.name)


def _driver(pointer: Object) -> PciDriver:
    driver = pointer[0].read_()
    owner = driver.driver.owner
    configure = driver.sriov_configure.value_()
    return PciDriver(
        name=text(driver.driver.name),
        module=array_text(owner.name.read_()) if owner else None,
        sriov_configure=symbol(pointer.prog_, configure) if configure else None,
    )
