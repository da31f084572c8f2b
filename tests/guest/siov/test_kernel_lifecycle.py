# SPDX-License-Identifier: GPL-2.0-or-later
"""A function with SIOV comes, goes and is reset, and its kernel neither forgets nor keeps what it should not."""

from __future__ import annotations

from errno import ENODEV, ENOSYS

import pytest
from siov_cases import BEYOND_ITS_BUS, declare, kept, pointer
from siov_model import Sdis

from harness.device.capabilities import SIOV_SIZE
from harness.device.device import CONFIG
from harness.device.siov import SiovDevice
from harness.guest.guest import Guest
from harness.guest.introspect.state import KernelState
from harness.guest.pci import Function
from harness.guest.tracing import freed
from harness.machine.machine import Machine
from harness.pytest_plugin.fixtures import LoadModule

pytestmark = pytest.mark.needs_kernel("PCI_SIOV")

MEMBERS = ("pos", "cap", "total_SDIs", "offset", "stride")


@pytest.mark.row("SI-10")
@pytest.mark.machine("siov", total_sdis=300)
@pytest.mark.machine("siov-switch", total_sdis=300)
def test_removed_and_found_again_it_is_kept_as_before(guest: Guest, pf: Function, introspection: KernelState) -> None:
    before = kept(introspection, pf)
    assert before.siov is not None
    for _ in range(5):
        pf.remove()
        assert pf.bdf not in [one.bdf for one in introspection.functions()]
        guest.rescan()
        after = kept(introspection, pf)
        assert (after.is_physfn, after.is_siov, after.references) == (True, True, before.references)
        assert after.siov is not None
        assert [after.siov[name] for name in MEMBERS] == [before.siov[name] for name in MEMBERS]


@pytest.mark.row("SI-10")
@pytest.mark.machine("siov")
def test_what_was_kept_of_a_removed_function_is_freed(guest: Guest, pf: Function, introspection: KernelState) -> None:
    for _ in range(3):
        with freed(guest, pointer(introspection, pf)) as memory:
            pf.remove()
            assert memory.happened
        guest.rescan()


@pytest.mark.row("SI-07", "SI-10")
@pytest.mark.machine("siov")
def test_a_function_may_lose_its_sdis_and_have_them_again(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState
) -> None:
    seen = []
    for sdis in (Sdis(4, 1, 1), Sdis(4, 0, 1), Sdis(0, 1, 1), Sdis(8, 1, 1)):
        declare(guest, pf, device, sdis)
        seen.append(kept(introspection, pf).is_siov)
    assert seen == [True, False, False, True]


@pytest.mark.row("SI-11")
@pytest.mark.machine("siov", total_sdis=300, siov_status=1)
def test_a_function_level_reset_changes_nothing_of_what_is_kept(
    pf: Function, device: SiovDevice, introspection: KernelState
) -> None:
    """Nor is anything restored: there is nothing in the capability that software writes."""
    before, at = introspection.functions(), device.config.register("siov_header").offset
    since = device.log.mark()
    pf.write("reset_method", "flr")
    pf.reset()
    assert introspection.functions() == before
    assert not [place for place in range(0, 0x10, 4) if device.log.writes(CONFIG, at + place, since=since)]


@pytest.mark.row("SI-10")
@pytest.mark.machine("siov", vectors=0)
def test_of_a_function_that_is_unplugged_nothing_is_kept(
    guest: Guest, machine: Machine, pf: Function, introspection: KernelState
) -> None:
    with freed(guest, pointer(introspection, pf)) as memory:
        machine.unplug("siov0")
        assert memory.happened
    machine.plug("siov0")
    assert kept(introspection, pf).is_siov


@pytest.mark.row("SI-27")
@pytest.mark.machine("siov", **BEYOND_ITS_BUS)
def test_a_function_that_is_plugged_in_is_found_though_no_bus_can_be_kept_free(
    pf: Function, introspection: KernelState
) -> None:
    """Its bridge has the numbers that firmware gave it, and the next bridge those that follow."""
    siov = kept(introspection, pf).siov
    assert siov is not None
    assert siov["total_SDIs"] == BEYOND_ITS_BUS["total_sdis"]
    upstream = pf.upstream
    assert upstream is not None
    assert upstream.buses == (0, 1, 1)


@pytest.mark.row("SI-09", "SI-10")
@pytest.mark.machine("siov")
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize("read", range(-1, 5))
def test_a_function_that_goes_while_its_sdis_are_read_leaves_nothing_half_done(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState, read: int
) -> None:
    """From one of the kernel's reads of the capability on, the device answers with all ones."""
    at = device.config.register("siov_header").offset
    pf.remove()
    since = device.log.mark()
    guest.rescan()
    places = [one.offset for one in device.log.reads(CONFIG, since=since)]
    first = next(number for number, place in enumerate(places) if at < place < at + SIOV_SIZE)
    pf.remove()
    with device.faults.all_ones(CONFIG, after=first + read) as fault:
        guest.rescan()
        assert fault.happened
    for one in introspection.functions():
        assert one.is_siov == bool(one.siov_pointer)
        assert one.is_physfn or not one.is_siov
    if pf.exists:
        pf.remove()
    guest.rescan()
    assert kept(introspection, pf).is_siov


@pytest.mark.row("SI-02")
@pytest.mark.machine("siov")
def test_what_drivers_ask_of_sriov_a_pf_by_siov_has_not(
    guest: Guest, pf: Function, introspection: KernelState, guest_module: LoadModule
) -> None:
    """The driver calls, in its probe, what the kernel exports for PFs by SR-IOV."""
    loaded = guest_module("iov-pf")
    pf.override("iov-pf")
    said = [int(guest.read(f"/sys/module/iov_pf/parameters/{name}")) for name in ("probed", "enabled", "counted")]
    assert said == [-ENODEV, -ENOSYS, 0]
    pf.unbind()
    loaded.unload()
    guest_module("iov-pf", totalvfs=1)
    pf.override("iov-pf")
    assert int(guest.read("/sys/module/iov_pf/parameters/probed")) == -ENOSYS
    assert kept(introspection, pf).is_siov
