# SPDX-License-Identifier: GPL-2.0-or-later
"""A SIOV device comes, goes, is reset and handed over, and is the same each time."""

from __future__ import annotations

import pytest
from siov_cases import sriov_attributes, the_capability

from harness.deadline import Deadline
from harness.device.log import Kind
from harness.device.siov import SiovDevice
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

RESCAN = "/sys/bus/pci/rescan"
STUB = "pci-stub"


@pytest.mark.machine("siov", total_sdis=300)
@pytest.mark.machine("siov-switch", total_sdis=300)
@pytest.mark.machine("siov-pci-bridge", total_sdis=300)
def test_removed_and_found_again_it_is_the_same(guest: Guest, pf: Function) -> None:
    before = pf.config(0x40)
    for _ in range(3):
        pf.write("remove", 1)
        assert not pf.exists
        guest.write(RESCAN, "1")
        assert pf.exists
    assert pf.config(0x40) == before
    assert sriov_attributes(pf) == set()


@pytest.mark.machine("siov")
def test_the_whole_port_removed_and_found_again_brings_it_back(guest: Guest, pf: Function) -> None:
    port = pf.upstream
    assert port is not None
    port.write("remove", 1)
    assert not pf.exists
    guest.write(RESCAN, "1")
    assert the_capability(pf).total_sdis == 4


@pytest.mark.machine("siov", vectors=0)
@pytest.mark.machine("siov-switch", vectors=0)
def test_unplugged_and_plugged_again_it_is_the_same(machine: Machine, pf: Function, device: SiovDevice) -> None:
    before, since = pf.config(0x100), device.log.mark()
    machine.unplug("siov0")
    device.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED, since=since)
    assert not pf.exists
    machine.plug("siov0")
    assert (pf.config(0x100), device.is_connected) == (before, True)


@pytest.mark.machine("siov")
@pytest.mark.known_bug(
    "QEMU 11.1 aborts when a vfio-user device with MSI-X is unplugged", match="subregion->container == mr"
)
def test_with_msix_it_is_unplugged_too(machine: Machine) -> None:
    """QEMU takes the pending bits out of a BAR that is gone (hw/vfio-user/pci.c, vfio_user_msix_teardown())."""
    machine.qmp.execute("device_del", id="siov0")  # machine.unplug() refuses
    machine.qmp.wait_event("DEVICE_DELETED", Deadline(30.0, "the end of siov0"))


@pytest.mark.machine("siov", siov_status=0x01)
@pytest.mark.machine("siov", siov_status=0x81)
def test_a_function_level_reset_stops_what_was_active_and_keeps_the_rest(
    machine: Machine, pf: Function, device: SiovDevice
) -> None:
    before = the_capability(pf)
    since = device.log.mark()
    pf.write("reset", 1)
    assert [one.kind for one in device.log.entries(since=since) if one.kind in (Kind.FLR, Kind.RESET)] == [Kind.FLR]
    assert before.status == machine.spec.parameters["siov_status"]
    assert the_capability(pf) == before._replace(status=before.status & ~1)


@pytest.mark.machine("siov")
def test_a_reset_gives_its_bars_and_command_register_back(guest: Guest, pf: Function) -> None:
    guest.run(["setpci", "-s", str(pf.bdf), "COMMAND=0006"], check=True)
    before = pf.config(0, 0x40)
    pf.write("reset", 1)
    assert pf.config(0, 0x40) == before


@pytest.mark.machine("siov")
def test_it_can_be_reset_by_its_own_means(pf: Function) -> None:
    assert "flr" in pf.read("reset_method").split()


@pytest.mark.machine("siov")
def test_it_can_be_handed_to_a_driver_and_taken_back(guest: Guest, pf: Function) -> None:
    guest.run(f"modprobe {STUB}", check=True)
    for _ in range(3):
        pf.override(STUB)
        assert (pf.driver, sriov_attributes(pf)) == (STUB, set())
        pf.unbind()
        assert pf.driver is None
    assert the_capability(pf).total_sdis == 4


@pytest.mark.machine("siov")
def test_software_cannot_write_to_the_capability(guest: Guest, pf: Function, device: SiovDevice) -> None:
    before, at = the_capability(pf), device.config.register("siov_header").offset
    for offset in range(0, 0x10, 4):
        guest.run(["setpci", "-s", str(pf.bdf), f"{at + offset:x}.l=ffffffff"], check=True)
    assert the_capability(pf) == before
    assert len(device.log.writes(7, at + 8)) == 1  # they did reach the device


@pytest.mark.machine("siov")
def test_status_follows_the_sdis_that_are_enabled(pf: Function, device: SiovDevice) -> None:
    registers = device.bars[0]
    seen = [the_capability(pf).status]
    for sdi, enabled in ((2, 1), (3, 1), (2, 0), (3, 0)):
        select, control = registers.register("select"), registers.register("control")
        device.write(0, select.offset, sdi.to_bytes(4, "little"))
        device.write(0, control.offset, enabled.to_bytes(4, "little"))
        seen.append(the_capability(pf).status)
    assert seen == [0, 1, 1, 1, 0]
