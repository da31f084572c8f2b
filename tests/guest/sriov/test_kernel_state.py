# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel has in mind of PCI functions agrees with what its sysfs says, and with the hardware."""

from __future__ import annotations

import time

import pytest

from harness.deadline import Deadline
from harness.guest.guest import Guest
from harness.guest.introspect.functions import PciFunction
from harness.guest.introspect.state import KernelState
from harness.guest.pci import Bdf, Function

pytestmark = [pytest.mark.machine("nvme-sriov"), pytest.mark.machine("igb-sriov")]

WALK_LIMIT = 0.05
"""Seconds for a walk of all functions after the first, of a handful: 1 ms when idle."""


def shown(function: Function) -> dict[str, object]:
    """Give what sysfs shows of a function, by the names that introspection has for it."""
    attributes = function.attributes()
    is_pf = "sriov_totalvfs" in attributes
    physfn = function.physfn
    return {
        "vendor": int(function.read("vendor"), 16),
        "device": int(function.read("device"), 16),
        "driver": function.driver,
        "is_physfn": is_pf,
        "is_virtfn": "physfn" in attributes,
        "physfn": physfn and physfn.bdf,
        "enabled": int(function.read("enable")),
        "sriov": {name: int(function.read(name)) for name in SRIOV} if is_pf else None,
    }


SRIOV = ("sriov_numvfs", "sriov_totalvfs", "sriov_offset", "sriov_stride", "sriov_drivers_autoprobe")


def kept(one: PciFunction) -> dict[str, object]:
    """Give what the kernel keeps of a function, as sysfs would show it."""
    names = ("vendor", "device", "driver", "is_physfn", "is_virtfn", "physfn", "enabled")
    found: dict[str, object] = {name: getattr(one, name) for name in names}
    sriov = one.sriov
    found["sriov"] = sriov and {
        "sriov_numvfs": sriov.num_VFs, "sriov_totalvfs": sriov.driver_max_VFs, "sriov_offset": sriov.offset,
        "sriov_stride": sriov.stride, "sriov_drivers_autoprobe": int(sriov.drivers_autoprobe),
    }  # fmt: skip
    return found


def in_one_moment(guest: Guest, introspection: KernelState) -> tuple[list[PciFunction], dict[str, dict[str, object]]]:
    """Give what the kernel keeps and what sysfs shows, where that was the same before and after.

    It is not while Linux 7 probes VFs, asynchronously: a driver is linked before its probe, and unlinked if that fails.
    """
    deadline = Deadline(30, "drivers to have met all functions")
    while True:
        deadline.check()
        before = {str(one): shown(one) for one in guest.functions()}
        functions = introspection.functions()
        if before == {str(one): shown(one) for one in guest.functions()}:
            return functions, before


def check_agreement(guest: Guest, introspection: KernelState, *, vfs: int) -> None:
    functions, in_sysfs = in_one_moment(guest, introspection)
    assert sum(one.is_virtfn for one in functions) == vfs
    assert {str(one.bdf): kept(one) for one in functions} == in_sysfs
    assert [one.name for one in functions] == [str(one.bdf) for one in functions]


def test_kernel_and_sysfs_agree_on_every_function_before_during_and_after(
    guest: Guest, pf: Function, introspection: KernelState
) -> None:
    check_agreement(guest, introspection, vfs=0)
    pf.numvfs = 2
    check_agreement(guest, introspection, vfs=2)
    pf.numvfs = 0
    check_agreement(guest, introspection, vfs=0)


def test_kernel_and_sysfs_agree_on_a_pf_without_a_driver(
    guest: Guest, pf: Function, introspection: KernelState
) -> None:
    pf.unbind()
    check_agreement(guest, introspection, vfs=0)


@pytest.mark.row("SR-04")
def test_the_structure_of_a_pf_is_that_of_its_capability(pf: Function, introspection: KernelState) -> None:
    pf.numvfs = 2
    sriov = of(introspection, pf).sriov
    assert sriov is not None
    capability = pf.config(sriov.pos, 0x40)
    numbers = [int.from_bytes(capability[at : at + 2], "little") for at in (0x0C, 0x0E, 0x10, 0x14, 0x16, 0x1A)]
    assert int.from_bytes(capability[:2], "little") == 0x10  # PCI_EXT_CAP_ID_SRIOV, include/uapi/linux/pci_regs.h
    assert numbers == [
        sriov.initial_VFs, sriov.total_VFs, sriov.num_VFs, sriov.offset, sriov.stride, sriov.vf_device
    ]  # fmt: skip


@pytest.mark.row("SR-51")
def test_a_vf_belongs_to_its_pf_and_lies_where_offset_and_stride_say(pf: Function, introspection: KernelState) -> None:
    pf.numvfs = 2
    functions = introspection.functions()
    (known,) = [one for one in functions if one.bdf == pf.bdf]
    assert known.sriov is not None
    first = pf.bdf.routing_id + known.sriov.offset
    places = [Bdf.from_routing_id(first + number * known.sriov.stride) for number in range(2)]
    vfs = [one for one in functions if one.is_virtfn]
    assert [one.bdf for one in vfs] == places
    assert [one.physfn for one in vfs] == [pf.bdf, pf.bdf]


@pytest.mark.row("SR-63")
def test_a_pf_is_referred_to_as_often_as_before_when_its_vfs_are_gone(pf: Function, introspection: KernelState) -> None:
    before = of(introspection, pf).references
    pf.numvfs = 2
    during = of(introspection, pf).references
    pf.numvfs = 0
    assert during > before  # each VF holds its PF (pci_iov_add_virtfn, drivers/pci/iov.c)
    assert of(introspection, pf).references == before


@pytest.mark.row("SR-63")
def test_enabling_and_disabling_leaves_every_function_as_it_was(pf: Function, introspection: KernelState) -> None:
    pf.numvfs = 1
    pf.numvfs = 0  # from then on `initial_VFs` is known (sriov_enable, drivers/pci/iov.c)
    before = introspection.functions()
    pf.numvfs = 2
    assert introspection.functions() != before
    pf.numvfs = 0
    assert introspection.functions() == before


def test_the_range_of_a_bus_is_that_of_its_bridge(guest: Guest, introspection: KernelState) -> None:
    buses = {bus.bridge: bus for bus in introspection.buses() if bus.bridge is not None}
    bridges = [one for one in introspection.functions() if one.is_bridge]
    assert len(bridges) >= 4  # the root ports of the base machine
    assert {bridge.bdf for bridge in bridges} == set(buses)
    for bridge in bridges:
        bus = buses[bridge.bdf]
        assert (bus.primary, bus.number, bus.last) == guest.function(bridge.bdf).buses
        assert (bus.parent, bus.number, bus.first) == (bridge.bdf.bus, bridge.subordinate, bus.number)


def test_every_function_is_on_a_bus_of_the_tree(pf: Function, introspection: KernelState) -> None:
    pf.numvfs = 2
    numbers = {(bus.domain, bus.number) for bus in introspection.buses()}
    assert {(one.bdf.domain, one.bdf.bus) for one in introspection.functions()} <= numbers


def test_a_walk_of_all_functions_takes_no_time_after_the_first(pf: Function, introspection: KernelState) -> None:
    pf.numvfs = 2
    introspection.functions()
    assert min(seconds(introspection) for _ in range(5)) < WALK_LIMIT


def seconds(introspection: KernelState) -> float:
    """Tell how long a walk of all functions takes."""
    started = time.perf_counter()
    assert introspection.functions()
    return time.perf_counter() - started


def of(introspection: KernelState, function: Function) -> PciFunction:
    (found,) = [one for one in introspection.functions() if one.bdf == function.bdf]
    return found
