# SPDX-License-Identifier: GPL-2.0-or-later
"""SIOV devices in different places: below a switch, behind a PCI bridge, on bus 0, two of them, behind an IOMMU."""

from __future__ import annotations

import pytest
from siov_cases import BEYOND_ITS_BUS, bridges, capability, knows_siov, sriov_attributes, the_capability

from harness.device.log import Kind
from harness.device.siov import SiovDevice
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

ROOT_COMPLEX_INTEGRATED_ENDPOINT = 0x9  # Device/Port Type, PCI Express Base Specification, 7.5.3.2


def port_type(pf: Function, device: SiovDevice) -> int:
    at = device.config.register("express_capabilities").offset
    return int.from_bytes(pf.config(at, 2), "little") >> 4 & 0xF


def buses_are_firmwares(guest: Guest) -> None:
    """State that each bridge leads to as many buses as there are bridges below it, and no two of them to the same."""
    numbered = bridges(guest)
    assert numbered
    for _, secondary, subordinate in numbered.values():
        below = [other for other in numbered.values() if secondary <= other[0] <= subordinate]
        assert subordinate - secondary == len(below)
    assert len({secondary for _, secondary, _ in numbered.values()}) == len(numbered)


@pytest.mark.machine("siov-switch")
@pytest.mark.cold
def test_below_a_switch_it_is_found_at_boot_too(pf: Function) -> None:
    assert (str(pf.bdf), the_capability(pf).total_sdis) == ("0000:03:00.0", 4)


@pytest.mark.machine("siov-switch", total_sdis=255, sdi_stride=2)
def test_below_a_switch_the_capability_is_seen_as_declared(pf: Function) -> None:
    found = the_capability(pf)
    assert (found.total_sdis, found.sdi_stride, len(pf.config())) == (255, 2, 4096)
    upstream = pf.upstream
    assert upstream is not None
    assert str(upstream.bdf) == "0000:02:01.0"
    assert sriov_attributes(pf) == set()


@pytest.mark.machine("siov-pci-bridge")
@pytest.mark.machine("siov-pci-bridge", total_sdis=512, siov_status=1)
def test_behind_a_pci_bridge_the_capability_is_out_of_reach(pf: Function, device: SiovDevice) -> None:
    config = pf.config()
    assert len(config) == 256
    assert capability(pf) is None
    assert int.from_bytes(config[:2], "little") == device.identity.vendor_id
    assert sriov_attributes(pf) == set()


@pytest.mark.machine("siov-rciep", **BEYOND_ITS_BUS)
def test_on_bus_zero_it_is_an_integrated_endpoint_with_all_that_was_declared(
    guest: Guest, machine: Machine, pf: Function, device: SiovDevice
) -> None:
    """All in one, since this machine is always booted."""
    assert (str(pf.bdf), port_type(pf, device)) == ("0000:00:08.0", ROOT_COMPLEX_INTEGRATED_ENDPOINT)
    assert pf.upstream is None
    assert pf.config(0x100, 0xF00) == device.config.peek(0x100, 0xF00)
    assert sriov_attributes(pf) == set()
    if not knows_siov(machine):
        buses_are_firmwares(guest)


@pytest.mark.machine("siov-two", total_sdis=9, second_total_sdis=300)
@pytest.mark.usefixtures("shared_machine")
class TestTwo:
    def test_both_are_found_each_on_its_bus(self, pfs: list[Function]) -> None:
        assert [str(pf.bdf) for pf in pfs] == ["0000:01:00.0", "0000:02:00.0"]
        assert [the_capability(pf).total_sdis for pf in pfs] == [9, 300]

    def test_neither_has_sriov_attributes(self, pfs: list[Function]) -> None:
        assert [sriov_attributes(pf) for pf in pfs] == [set(), set()]


@pytest.mark.machine("siov-two", vectors=0)
def test_one_may_go_and_the_other_stays(machine: Machine, pfs: list[Function]) -> None:
    first, second = pfs
    machine.unplug("siov0")
    assert (first.exists, the_capability(second).total_sdis) == (False, 4)
    machine.devices["siov0"].log.wait(lambda entry: entry.kind is Kind.DISCONNECTED)
    assert machine.devices["siov1"].is_connected


@pytest.mark.machine("siov-viommu")
def test_behind_an_iommu_it_has_a_group_of_its_own(guest: Guest, pf: Function) -> None:
    members = guest.run(["ls", f"{pf.path}/iommu_group/devices"], check=True).stdout.split()
    assert members == [str(pf.bdf)]
    assert the_capability(pf).total_sdis == 4


@pytest.mark.machine("siov", **BEYOND_ITS_BUS)
@pytest.mark.machine("siov-switch", **BEYOND_ITS_BUS)
@pytest.mark.machine("siov-two", **BEYOND_ITS_BUS)
def test_bus_numbers_are_those_that_firmware_gave(guest: Guest, machine: Machine) -> None:
    if knows_siov(machine):
        pytest.skip("this kernel knows SIOV (CONFIG_PCI_SIOV): it may give bridges more buses")
    buses_are_firmwares(guest)


@pytest.mark.machine("siov", **BEYOND_ITS_BUS)
def test_bus_numbers_stay_when_the_function_is_removed_and_found_again(
    guest: Guest, machine: Machine, pf: Function
) -> None:
    if knows_siov(machine):
        pytest.skip("this kernel knows SIOV (CONFIG_PCI_SIOV): it may give bridges more buses")
    before = bridges(guest)
    pf.write("remove", 1)
    guest.write("/sys/bus/pci/rescan", "1")
    assert (bridges(guest), pf.exists) == (before, True)
