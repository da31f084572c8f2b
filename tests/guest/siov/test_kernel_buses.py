# SPDX-License-Identifier: GPL-2.0-or-later
"""Bus numbers that a kernel with SIOV keeps free for SDIs, where bus numbers are its to give, and nowhere else.

It is asked for them in two ways: at boot with `pci=assign-busses`, and by a root port that is found anew without any.
"""

from __future__ import annotations

import re
from errno import ENOSYS
from itertools import pairwise

import pytest
from siov_cases import BEYOND_ITS_BUS, bridges, found_without_numbers, kept, pointer, say, the_capability
from siov_model import Sdis

from harness.device.siov import SiovDevice
from harness.errors import GuestFailure
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.introspect.state import KernelState
from harness.guest.pci import Function
from harness.guest.tracing import freed
from harness.machine.machine import Machine

pytestmark = pytest.mark.needs_kernel("PCI_SIOV")

ALL_BUSES = 0xFF
BEYOND = Sdis(*BEYOND_ITS_BUS.values())


def at_boot(profile: str, **parameters: int) -> pytest.MarkDecorator:
    """Mark a test with a machine whose kernel gives all bridges their numbers."""
    return pytest.mark.machine(profile, append="pci=assign-busses", **parameters)


@pytest.fixture
def devices(machine: Machine) -> list[SiovDevice]:
    """The SIOV devices of the test's machine, in its profile's order."""
    return [one for one in machine.devices.values() if isinstance(one, SiovDevice)]


def port_above(function: Function) -> Function:
    above = function.upstream
    if above is None:
        raise GuestFailure(f"{function} is on a root bus")
    return above


def sdis_of(device: SiovDevice) -> Sdis:
    return Sdis(device.total_sdis, device.first_sdi_offset, device.sdi_stride)


def check_apart(guest: Guest) -> None:
    """State that no two bridges of one bus lead to the same bus number, and each of them has at least one."""
    by_bus: dict[int, list[tuple[int, int]]] = {}
    for bdf, (_, secondary, subordinate) in bridges(guest).items():
        assert bdf.bus < secondary <= subordinate, bdf
        by_bus.setdefault(bdf.bus, []).append((secondary, subordinate))
    for ranges in by_bus.values():
        ranges.sort()
        for (_, last), (first, _) in pairwise(ranges):
            assert last < first


def check_stays(guest: Guest) -> None:
    """State that looking again changes nothing: each function has its address, each bridge its numbers."""
    before, functions = bridges(guest), guest.functions()
    guest.rescan()
    assert (bridges(guest), guest.functions()) == (before, functions)


@pytest.mark.row("SI-21", "SI-23")
@pytest.mark.machine("siov")
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize(
    "sdis",
    [
        Sdis(1, 1, 0), Sdis(255, 1, 1), Sdis(256, 1, 1), Sdis(512, 0x100, 1), Sdis(0x20, 8, 8), Sdis(0x21, 0x100, 0x20),
        Sdis(3, 0x100, 0x100), Sdis(1, 0x1000, 0), Sdis(0, 0x100, 1), Sdis(4, 0x100, 0), Sdis(0xFFFF, 0x100, 1),
    ],
    ids=lambda sdis: "-".join(f"{number:x}" for number in sdis),
)  # fmt: skip
def test_a_port_without_numbers_gets_what_the_sdis_behind_it_need(
    guest: Guest, device: SiovDevice, introspection: KernelState, sdis: Sdis
) -> None:
    say(device, sdis)
    port, function = found_without_numbers(guest)
    _, secondary, subordinate = port.buses
    assert function.bdf.bus == secondary
    assert subordinate == sdis.last_bus(function.bdf.routing_id)
    assert kept(introspection, function).is_siov == sdis.are_numbered(function.bdf.routing_id)
    check_apart(guest)


@pytest.mark.row("SI-22", "SI-21", "SI-23", "SI-25")
@at_boot("siov", total_sdis=255)
@at_boot("siov", **BEYOND_ITS_BUS)
@at_boot("siov-switch", **BEYOND_ITS_BUS)
@pytest.mark.cold
def test_at_boot_all_bridges_above_sdis_lead_to_their_buses(
    guest: Guest, device: SiovDevice, introspection: KernelState
) -> None:
    here = next(one for one in guest.functions() if one.device == device.identity.device_id)
    last = sdis_of(device).last_bus(here.bdf.routing_id)
    above, seen = here.upstream, 0
    while above is not None:
        assert above.buses[1] <= here.bdf.bus
        assert above.buses[2] == last or (seen and above.buses[2] > last)
        above, seen = above.upstream, seen + 1
    check_apart(guest)
    check_stays(guest)
    assert kept(introspection, here).is_siov


@pytest.mark.row("SI-24")
@at_boot("siov-pair", first_sdi_offset=0x100, total_sdis=2, second_total_sdis=700)
@at_boot("siov-pair", first_sdi_offset=0x100, total_sdis=700, second_total_sdis=2)
@at_boot("siov-two", first_sdi_offset=0x100, total_sdis=700, second_total_sdis=300)
@pytest.mark.cold
def test_of_several_pfs_on_a_bus_the_largest_counts_and_those_on_others_count_for_themselves(
    guest: Guest, devices: list[SiovDevice]
) -> None:
    found = [one for one in guest.functions() if one.device == devices[0].identity.device_id]
    assert len(found) == len(devices)
    needed: dict[Function, int] = {}
    for function, device in zip(found, devices, strict=True):
        port = port_above(function)
        needed[port] = max(needed.get(port, 0), sdis_of(device).last_bus(function.bdf.routing_id))
    assert {port: port.buses[2] for port in needed} == needed
    check_apart(guest)


@pytest.mark.row("SI-24")
@at_boot("siov-igb", first_sdi_offset=0x100, total_sdis=300)
@pytest.mark.cold
def test_sdis_and_vfs_of_one_bus_share_what_is_kept_free(guest: Guest, device: SiovDevice) -> None:
    here = next(one for one in guest.functions() if one.device == device.identity.device_id)
    assert port_above(here).buses[2] == sdis_of(device).last_bus(here.bdf.routing_id)
    check_apart(guest)


@at_boot("siov-two", total_sdis=0xFC00, second_total_sdis=4)
@at_boot("siov-two", total_sdis=4, first_sdi_offset=0x3E00, sdi_stride=0x3E00)
@at_boot("siov-switch", total_sdis=0xFC00)
@at_boot("siov-beside-switch", total_sdis=0xFC00)
@at_boot("siov-rciep", total_sdis=0xFE00)
@pytest.mark.cold
def test_sdis_that_want_all_bus_numbers_leave_one_to_each_bridge(
    guest: Guest, devices: list[SiovDevice], introspection: KernelState
) -> None:
    """Else the devices behind other bridges were not found: a device must not be able to hide others."""
    found = [one for one in guest.functions() if one.device == devices[0].identity.device_id]
    assert len(found) == len(devices)
    assert [the_capability(one).total_sdis for one in found] == [one.total_sdis for one in devices]
    check_apart(guest)
    assert all(subordinate <= ALL_BUSES for _, _, subordinate in bridges(guest).values())
    check_stays(guest)
    for function, device in zip(found, devices, strict=True):
        assert kept(introspection, function).is_siov == sdis_of(device).are_numbered(function.bdf.routing_id)


@pytest.mark.row("SI-20")
@pytest.mark.machine("siov", **BEYOND_ITS_BUS)
@pytest.mark.machine("siov-switch", **BEYOND_ITS_BUS)
@pytest.mark.cold
def test_numbers_that_firmware_gave_stay_though_they_are_too_few(
    guest: Guest, pf: Function, introspection: KernelState
) -> None:
    above = port_above(pf)
    assert above.buses[1:] == (pf.bdf.bus, pf.bdf.bus)
    wanted = re.compile(rf"({above.bdf}|pci_bus 0000:{pf.bdf.bus:02x}): .*bus.* {pf.bdf.bus + 2:02x}\b")
    assert wanted.search(guest.run("dmesg", check=True).stdout)
    check_apart(guest)
    check_stays(guest)
    assert kept(introspection, pf).is_siov


@pytest.mark.row("SI-26")
@pytest.mark.machine("siov-rciep", **BEYOND_ITS_BUS)
def test_sdis_of_an_integrated_endpoint_take_nothing_from_bridges_that_firmware_numbered(guest: Guest) -> None:
    assert min(secondary for _, secondary, _ in bridges(guest).values()) == 1
    check_apart(guest)
    check_stays(guest)


@pytest.mark.row("SI-26")
@at_boot("siov-rciep", **BEYOND_ITS_BUS)
def test_sdis_of_an_integrated_endpoint_come_before_the_buses_of_bridges(guest: Guest, pf: Function) -> None:
    last = BEYOND.last_bus(pf.bdf.routing_id)
    assert last >= 2
    assert min(secondary for _, secondary, _ in bridges(guest).values()) == last + 1
    check_apart(guest)


@pytest.mark.machine("siov-pxb", **BEYOND_ITS_BUS)
@pytest.mark.machine("siov-pxb", bus_nr=254, **BEYOND_ITS_BUS)
@at_boot("siov-pxb", **BEYOND_ITS_BUS)
@pytest.mark.cold
def test_a_hierarchy_of_its_own_keeps_to_the_numbers_that_firmware_gave_it(
    pf: Function, introspection: KernelState
) -> None:
    above = port_above(pf)
    assert above.buses[1:] == (pf.bdf.bus, pf.bdf.bus)
    assert kept(introspection, pf).is_siov == BEYOND.are_numbered(pf.bdf.routing_id)


@pytest.mark.machine("siov-igb")
def test_pfs_of_both_kinds_on_one_bus_leave_each_other_alone(
    guest: Guest, pfs: list[Function], introspection: KernelState
) -> None:
    """QEMU's igb depends on function 0 of its slot, which has SIOV alone: for VFs that is no PF (sriov_enable)."""
    siov, igb = pfs
    assert kept(introspection, siov).is_siov
    assert (kept(introspection, igb).is_sriov, igb.config_space.sriov.dependency_link) == (True, siov.bdf.function)
    with raises_errno(ENOSYS):
        igb.numvfs = 2
    assert (igb.numvfs, igb.vfs) == (0, [])
    with freed(guest, pointer(introspection, siov)) as memory:
        siov.remove()
        assert memory.happened  # and so nothing of igb's refers to it, as to the first PF of its bus
    assert kept(introspection, igb).is_physfn
    guest.rescan()
    assert (kept(introspection, siov).is_siov, kept(introspection, igb).is_physfn) == (True, True)
