# SPDX-License-Identifier: GPL-2.0-or-later
"""VFs that lie on another bus than their PF, where stock QEMU cannot have any: a function answers there instead."""

from __future__ import annotations

from errno import ENOMEM

import pytest
from sriov_cases import STUB, hand_over, move_vfs, need, said

from harness.device.overlay import Overlay
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Bdf, Function
from harness.machine.machine import Machine

BUS_NUMBERS = 0x18
"""Primary, Secondary and Subordinate Bus Number of a bridge (PCI-to-PCI Bridge Architecture Specification, 3.2.5)."""
BUSES = "/sys/class/pci_bus"
BEYOND = 0x100
"""A First VF Offset that leads to the next bus."""


def moved(machine: Machine, pf: Function, count: int) -> list[Bdf]:
    """Have the VFs lie on the bus after the PF's, one behind the other, and answer there; gives their addresses."""
    overlay = machine.overlay("igb0")
    for name, value in (("first_vf_offset", BEYOND), ("vf_stride", 1), ("total_vfs", count), ("initial_vfs", count)):
        overlay.config[f"sriov_{name}"] = value
    where = [Bdf.from_routing_id(pf.bdf.routing_id + BEYOND + number) for number in range(count)]
    move_vfs(machine, "igb0", where)
    return where


def buses(guest: Guest) -> set[str]:
    return set(guest.run(["ls", BUSES], check=True).stdout.split())


@pytest.mark.machine("igb-sriov")
@pytest.mark.row("SR-37")
@pytest.mark.parametrize("count", [1, 8])
def test_no_vf_is_enabled_beyond_the_buses_of_the_bridge(
    machine: Machine, guest: Guest, pf: Function, overlay: Overlay, count: int
) -> None:
    del overlay
    pf.remove()
    where = moved(machine, pf, count)
    guest.rescan()
    hand_over(guest, pf, STUB)
    mark = guest.log_mark()
    with raises_errno(ENOMEM):
        pf.numvfs = count
    assert said(
        guest, mark, f"can't enable {count} VFs (bus {where[-1].bus:02x} out of range of [bus {pf.bdf.bus:02x}])"
    )
    assert (pf.numvfs, pf.vfs) == (0, [])


@pytest.mark.machine("igb-sriov")
@pytest.mark.row("SR-51", "SR-52")
@pytest.mark.parametrize("count", [1, 8])
def test_vfs_on_a_further_bus_bring_it_and_take_it_along(
    machine: Machine, guest: Guest, pf: Function, overlay: Overlay, count: int
) -> None:
    """The kernel numbers the port's buses, and reserves one for the VFs."""
    port = pf.upstream
    assert port is not None
    pf.remove()
    overlay.config["sriov_first_vf_offset"] = BEYOND
    port.write_config(BUS_NUMBERS, bytes(3))
    port.remove()
    guest.rescan()
    (found,) = [one for one in guest.functions() if one.upstream == port]
    assert port.buses[1:] == (found.bdf.bus, found.bdf.bus + 1)
    found.remove()
    where = moved(machine, found, count)
    guest.rescan()
    hand_over(guest, found, STUB)
    before = buses(guest)
    for _ in range(2):
        found.numvfs = count
        assert [vf.bdf for vf in found.vfs] == where
        assert {vf.class_code for vf in found.vfs} == {0x020000}
        assert buses(guest) - before == {f"0000:{where[0].bus:02x}"}
        found.numvfs = 0
        assert buses(guest) == before


@pytest.mark.machine("igb-rciep")
@pytest.mark.row("SR-53")
def test_vfs_on_a_bus_that_is_there_are_put_into_it(
    machine: Machine, guest: Guest, pf: Function, overlay: Overlay
) -> None:
    """A PF on the root bus, whose bridges have the buses after it."""
    del overlay
    pf.remove()
    where = moved(machine, pf, 4)
    guest.rescan()
    hand_over(guest, pf, STUB)
    there = buses(guest)
    assert f"0000:{where[0].bus:02x}" in there
    pf.numvfs = 4
    assert [vf.bdf for vf in pf.vfs] == where
    assert buses(guest) == there
    pf.numvfs = 0


@pytest.mark.machine("igb-rciep")
@pytest.mark.row("SR-53")
@pytest.mark.known_bug(
    "the last VF takes a bus along that it did not bring, if nothing else is on it (virtfn_remove_bus()): its bridge "
    "still points to it",
    match="^the bridge has lost its bus",
)
def test_a_bus_that_was_there_before_vfs_stays_when_they_go(
    machine: Machine, guest: Guest, pf: Function, overlay: Overlay
) -> None:
    del overlay
    pf.remove()
    moved(machine, pf, 4)
    guest.rescan()
    hand_over(guest, pf, STUB)
    there = buses(guest)
    pf.numvfs = 4
    pf.numvfs = 0
    assert buses(guest) == there, "the bridge has lost its bus"


@pytest.mark.machine("pxb", bus_nr=0xFE)
@pytest.mark.row("SR-37")
def test_no_vf_is_enabled_beyond_the_last_bus_that_there_can_be(
    machine: Machine, guest: Guest, pf: Function, overlay: Overlay
) -> None:
    del overlay
    assert pf.bdf.bus == 0xFF
    pf.remove()
    moved_to = pf.bdf.routing_id + BEYOND
    machine.overlay("igb0").config["sriov_first_vf_offset"] = BEYOND
    guest.rescan()
    hand_over(guest, pf, STUB)
    mark = guest.log_mark()
    with raises_errno(ENOMEM):
        pf.numvfs = 1
    assert said(guest, mark, f"can't enable 1 VFs (bus {moved_to >> 8:02x} out of range of [bus ff])")


@pytest.mark.machine("pxb")
@pytest.mark.machine("pxb", bus_nr=0xFE)
@pytest.mark.row("SR-51")
def test_vfs_on_a_high_bus_are_enabled(guest: Guest, pf: Function) -> None:
    hand_over(guest, pf, STUB)
    pf.numvfs = 8
    assert [vf.bdf.bus for vf in pf.vfs] == [pf.bdf.bus] * 8
    pf.numvfs = 0


@pytest.mark.machine("pxb")
@pytest.mark.row("SR-51")
def test_vfs_elsewhere_on_a_high_bus_are_found(machine: Machine, guest: Guest, pf: Function, overlay: Overlay) -> None:
    pf.remove()
    overlay.config["sriov_first_vf_offset"], overlay.config["sriov_vf_stride"] = 0x21, 1
    where = [Bdf.from_routing_id(pf.bdf.routing_id + 0x21 + number) for number in range(8)]
    move_vfs(machine, "igb0", where)
    guest.rescan()
    hand_over(guest, pf, STUB)
    pf.numvfs = 8
    assert [vf.bdf for vf in pf.vfs] == where
    assert {vf.class_code for vf in pf.vfs} == {0x020000}
    pf.numvfs = 0


@pytest.mark.machine("pf-stub-native")
@pytest.mark.row("SR-70")
def test_pci_pf_stub_takes_amazons_pf_by_its_own_table(guest: Guest, pf: Function) -> None:
    assert (pf.vendor, pf.device) == (0x1D0F, 0x0053)
    need(guest, STUB)
    assert (pf.driver, pf.read("driver_override")) == (STUB, "(null)")
    pf.numvfs = 8
    assert len(pf.vfs) == 8
    pf.numvfs = 0
