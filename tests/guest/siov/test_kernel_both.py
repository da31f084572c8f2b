# SPDX-License-Identifier: GPL-2.0-or-later
"""SR-IOV and SIOV on one function: each is what it would be without the other.

QEMU keeps SR-IOV of a vfio-user device from its guests: the capability gets its ID when QEMU has looked, and the kernel
finds it with the function, anew. VFs never appear, so that none is enabled here.
"""

from __future__ import annotations

import pytest
from siov_cases import declare, found_without_numbers, kept, pointer, say, sriov_attributes
from siov_model import Sdis

from harness.device.siov import SiovDevice
from harness.guest.guest import Guest
from harness.guest.introspect.state import KernelState
from harness.guest.pci import Function
from harness.guest.tracing import freed

pytestmark = [pytest.mark.needs_kernel("PCI_SIOV")]

BOTH, NONE = Sdis(300, 0x100, 1), Sdis(0, 0, 0)


def bits(introspection: KernelState, function: Function) -> tuple[bool, bool | None, bool | None]:
    found = kept(introspection, function)
    return found.is_physfn, found.is_sriov, found.is_siov


@pytest.mark.row("SI-03", "SI-04", "SI-07", "SI-08")
@pytest.mark.machine("siov", total_vfs=16, first_vf_offset=2, vf_stride=3)
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize(
    ("sdis", "is_siov"),
    [(BOTH, True), (Sdis(1, 1, 0), True), (NONE, False), (Sdis(4, 0, 1), False), (Sdis(4, 1, 0), False),
     (Sdis(0xFFFF, 0x100, 1), False)],
    ids=["both", "one-sdi", "none", "no-offset", "no-stride", "too-many"],
)  # fmt: skip
def test_whatever_siov_says_sriov_is_what_it_is(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState, sdis: Sdis, is_siov: bool
) -> None:
    device.show_sriov()
    declare(guest, pf, device, sdis)
    assert bits(introspection, pf) == (True, True, is_siov)
    assert (pf.totalvfs, pf.numvfs, pf.offset, pf.stride, pf.autoprobe) == (16, 0, 2, 3, True)
    sriov = kept(introspection, pf).sriov
    assert sriov is not None
    last = pf.bdf.routing_id + 2 + 15 * 3
    assert (sriov.total_VFs, sriov.driver_max_VFs, sriov.max_VF_buses) == (16, 16, last >> 8)


@pytest.mark.row("SI-03")
@pytest.mark.machine("siov", total_vfs=16, first_vf_offset=0)
@pytest.mark.machine("siov", total_vfs=16, vf_stride=0)
def test_where_sriov_makes_no_sense_siov_is_what_it_is(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState
) -> None:
    device.show_sriov()
    declare(guest, pf, device, BOTH)
    assert bits(introspection, pf) == (True, False, True)
    assert sriov_attributes(pf) == set()


@pytest.mark.row("SI-03", "SI-10")
@pytest.mark.machine("siov", total_vfs=16)
def test_removed_both_are_forgotten_and_found_again_both_are_there(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState
) -> None:
    device.show_sriov()
    declare(guest, pf, device, BOTH)
    for _ in range(3):
        assert kept(introspection, pf).sriov_pointer
        with freed(guest, pointer(introspection, pf)) as siov:
            pf.remove()
            assert siov.happened
        guest.rescan()
        known = kept(introspection, pf)
        assert known.sriov_pointer
        with freed(guest, known.sriov_pointer) as sriov:
            pf.remove()
            assert sriov.happened
        guest.rescan()
        assert bits(introspection, pf) == (True, True, True)


@pytest.mark.row("SI-03", "SI-11")
@pytest.mark.machine("siov", total_vfs=16)
def test_a_reset_leaves_both_as_they_were(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState
) -> None:
    device.show_sriov()
    declare(guest, pf, device, Sdis(4, 1, 1))
    before = introspection.functions()
    pf.write("reset_method", "flr")
    pf.reset()
    assert introspection.functions() == before


@pytest.mark.row("SI-24")
@pytest.mark.machine("siov", total_vfs=512, first_vf_offset=0x100)
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize("sdis", [Sdis(4, 1, 1), Sdis(256, 0x100, 1), Sdis(512, 0x100, 1), Sdis(700, 0x100, 1)])
def test_buses_for_vfs_and_for_sdis_are_the_same_buses(guest: Guest, device: SiovDevice, sdis: Sdis) -> None:
    device.show_sriov()
    say(device, sdis)
    port, function = found_without_numbers(guest)
    of_vfs = Sdis(512, 0x100, 1).last_bus(function.bdf.routing_id)  # VFs are numbered as SDIs are
    assert port.buses[1:] == (function.bdf.bus, max(of_vfs, sdis.last_bus(function.bdf.routing_id)))
