# SPDX-License-Identifier: GPL-2.0-or-later
"""Every PCI bus as the kernel keeps it: `struct pci_bus` (include/linux/pci.h)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from drgn import Object, Program

from harness.guest.introspect.failures import KernelNonsense
from harness.guest.introspect.functions import bdf_of
from harness.guest.introspect.memory import LIST_LIMIT, entries, text
from harness.guest.pci import Bdf


@dataclass(frozen=True)
class PciBus:
    """One bus. `first` and `last` are its range of bus numbers (`busn_res`): its own, and those below it.

    `bridge` is the function that leads to it; None for a root bus, and for one that the kernel made for VFs alone.
    """

    domain: int
    number: int
    primary: int
    first: int
    last: int
    bridge: Bdf | None
    parent: int | None


def buses(program: Program) -> list[PciBus]:
    """Read all buses, each after the one it hangs below; raises what drgn does, and `KernelNonsense`."""
    found: list[PciBus] = []
    waiting = deque(entries(program["pci_root_buses"], "struct pci_bus", "node", "root buses"))
    while waiting:
        if len(found) >= LIST_LIMIT:
            raise KernelNonsense(f"the kernel's tree of PCI buses does not end within {LIST_LIMIT} buses")
        bus = waiting.popleft()
        found.append(_bus(bus))
        waiting.extend(entries(bus.children, "struct pci_bus", "node", "buses below one"))
    return found


def _bus(pointer: Object) -> PciBus:
    bus = pointer[0].read_()
    domain, _, _ = text(bus.dev.kobj.name).partition(":")  # "0000:01" (pci_alloc_child_bus, drivers/pci/probe.c)
    return PciBus(
        domain=int(domain, 16),
        number=bus.number.value_(),
        primary=bus.primary.value_(),
        first=bus.busn_res.start.value_(),
        last=bus.busn_res.end.value_(),
        bridge=bdf_of(bus.self) if bus.self else None,
        parent=bus.parent.number.value_() if bus.parent else None,
    )
