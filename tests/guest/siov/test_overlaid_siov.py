# SPDX-License-Identifier: GPL-2.0-or-later
"""SIOV laid over functions that QEMU itself models: PFs whose VFs work, VFs, bridges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from siov_cases import kept, sriov_attributes
from siov_model import Sdis

from harness import chain
from harness.device import capabilities
from harness.device.overlay import Overlay
from harness.guest import module
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

if TYPE_CHECKING:
    from harness.guest.introspect.state import KernelState

pytestmark = pytest.mark.needs_overlay

STUB = "pci-pf-stub"
SIOV = capabilities.siov(total_sdis=8, first_sdi_offset=0x40, sdi_stride=1)
ADDED = 0x1000 - capabilities.SIOV_SIZE
"""Where the profiles' capability lies: iov-overlay puts the first one at the end of the space."""
BOTH = [pytest.mark.machine(name).mark for name in ("nvme-siov", "igb-siov")]
IDS = ["nvme", "igb"]
both = pytest.mark.parametrize("machine", BOTH, indirect=True, ids=IDS)
WARNS_OF_ITSELF = pytest.mark.known_bug(
    "powering up a PF of unknown power state, the kernel writes VF BARs while VF Enable is on, and warns of itself",
    kernels=("6.12.*",),
    match="pci_iov_update_resource",
)
"""SR-IOV's own tests of resets (test_resets_of_pfs.py) say more of it."""


def stubbed(guest: Guest, pf: Function) -> Function:
    """Give a PF to the driver that does nothing but enable VFs."""
    if pf.driver != STUB:
        if not guest.driver(STUB).exists:
            module.load_own(guest, STUB)
        pf.override(STUB)
    return pf


@both
@pytest.mark.row("SI-03")
@pytest.mark.usefixtures("shared_machine")
def test_the_capability_is_in_the_chain_beside_that_of_sriov(pf: Function) -> None:
    config = pf.config()
    found = {link.id: link.at for link in chain.extended(config)}
    assert {capabilities.SRIOV, capabilities.SIOV} <= set(found)
    body = config[found[capabilities.SIOV] :]
    assert (body[8:10], body[0x0C:0x10]) == (b"\x04\x00", b"\x01\x00\x01\x00")


@both
@pytest.mark.row("SI-03")
@pytest.mark.usefixtures("shared_machine")
def test_vfs_are_enabled_and_disabled_as_without_siov(guest: Guest, pf: Function, overlay: Overlay) -> None:
    stubbed(guest, pf)
    total = overlay.config["sriov_total_vfs"]
    assert (pf.totalvfs, pf.offset, pf.stride) == (
        total, overlay.config["sriov_first_vf_offset"], overlay.config["sriov_vf_stride"],
    )  # fmt: skip
    for count in (1, total):
        pf.numvfs = count
        assert [vf.bdf.routing_id - pf.bdf.routing_id for vf in pf.vfs] == [
            pf.offset + number * pf.stride for number in range(count)
        ]
        pf.numvfs = 0
        assert pf.vfs == []


@both
@pytest.mark.row("SI-03")
@pytest.mark.needs_kernel("PCI_SIOV")
@pytest.mark.usefixtures("shared_machine")
def test_the_pf_is_one_by_both_and_its_vfs_are_vfs_by_sriov(
    guest: Guest, pf: Function, introspection: KernelState
) -> None:
    stubbed(guest, pf)
    pf.numvfs = 2
    found = kept(introspection, pf)
    assert (found.is_physfn, found.is_sriov, found.is_siov) == (True, True, True)
    assert found.siov is not None
    assert (found.siov["total_SDIs"], found.siov["offset"], found.siov["stride"]) == (4, 1, 1)
    for vf in pf.vfs:
        one = kept(introspection, vf)
        assert (one.is_physfn, one.is_virtfn, one.is_sriov, one.is_siov) == (False, True, True, False)
    pf.numvfs = 0
    assert (kept(introspection, pf).is_sriov, kept(introspection, pf).is_siov) == (True, True)


@both
@pytest.mark.row("SI-04", "SI-07", "SI-08")
@pytest.mark.needs_kernel("PCI_SIOV")
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize(
    "sdis", [Sdis(0, 0, 0), Sdis(4, 0, 1), Sdis(4, 1, 0), Sdis(0xFFFF, 0x100, 1)],
    ids=["none", "no-offset", "no-stride", "too-many"],
)  # fmt: skip
def test_where_siov_makes_no_sense_vfs_work_all_the_same(
    guest: Guest, pf: Function, overlay: Overlay, introspection: KernelState, sdis: Sdis
) -> None:
    pf.remove()
    overlay.show(ADDED + 8, sdis.total.to_bytes(2, "little"))
    overlay.show(ADDED + 0x0C, sdis.offset.to_bytes(2, "little") + sdis.stride.to_bytes(2, "little"))
    guest.rescan()
    assert (kept(introspection, pf).is_sriov, kept(introspection, pf).is_siov) == (True, False)
    stubbed(guest, pf).numvfs = 2
    assert len(pf.vfs) == 2
    pf.numvfs = 0
    pf.remove()
    overlay.clear()
    guest.rescan()
    assert kept(introspection, pf).is_siov


@both
@pytest.mark.row("SI-10")
@pytest.mark.needs_kernel("PCI_SIOV")
def test_a_pf_by_both_is_removed_and_found_again(guest: Guest, pf: Function, introspection: KernelState) -> None:
    for _ in range(3):
        stubbed(guest, pf).numvfs = 2
        pf.numvfs = 0
        pf.remove()
        guest.rescan()
        found = kept(introspection, pf)
        assert (found.is_physfn, found.is_sriov, found.is_siov) == (True, True, True)


@pytest.mark.parametrize("machine", [BOTH[0], pytest.param(BOTH[1], marks=WARNS_OF_ITSELF)], indirect=True, ids=IDS)
@pytest.mark.row("SR-110")
def test_a_reset_of_a_pf_by_both_brings_its_vfs_back(guest: Guest, pf: Function) -> None:
    stubbed(guest, pf).numvfs = 2
    before = [vf.bdf for vf in pf.vfs]
    pf.reset()
    assert pf.config_space.sriov.vf_enable
    assert [vf.bdf for vf in pf.vfs] == before
    assert all(vf.config(8, 4) != b"\xff" * 4 for vf in pf.vfs)
    pf.numvfs = 0


@pytest.mark.machine("igb-sriov")
@pytest.mark.row("SI-09")
@pytest.mark.parametrize("number", [0, 1])
def test_a_vf_that_carries_the_capability_is_a_vf(machine: Machine, guest: Guest, pf: Function, number: int) -> None:
    """On any kernel: it is enabled, is the PF's, and has no attributes of a PF."""
    machine.overlay("igb0", vf=number).add(SIOV)
    stubbed(guest, pf).numvfs = 2
    vf = pf.vfs[number]
    assert chain_ids(vf) >= {capabilities.SIOV}
    assert vf.physfn == pf
    assert sriov_attributes(vf) <= {"sriov_vf_msix_count"}
    pf.numvfs = 0
    assert pf.vfs == []


@pytest.mark.machine("igb-sriov")
@pytest.mark.row("SI-09")
@pytest.mark.needs_kernel("PCI_SIOV")
@pytest.mark.parametrize("number", [0, 1])
def test_a_vf_that_carries_the_capability_is_no_pf_by_it(
    machine: Machine, guest: Guest, pf: Function, introspection: KernelState, number: int
) -> None:
    machine.overlay("igb0", vf=number).add(SIOV)
    stubbed(guest, pf).numvfs = 2
    found = kept(introspection, pf.vfs[number])
    assert (found.is_physfn, found.is_virtfn, found.is_sriov, found.is_siov) == (False, True, True, False)
    assert not found.siov_pointer
    pf.numvfs = 0


def chain_ids(function: Function) -> set[int]:
    return {link.id for link in chain.extended(function.config())}


@pytest.mark.machine("minimal")
@pytest.mark.row("SI-09")
def test_a_bridge_that_carries_the_capability_is_a_bridge(machine: Machine, guest: Guest) -> None:
    port = machine.function("rp1")
    before = port.buses
    port.remove()
    machine.overlay("rp1").add(SIOV)
    guest.rescan()
    assert chain_ids(port) >= {capabilities.SIOV}
    assert port.buses == before


@pytest.mark.machine("minimal")
@pytest.mark.row("SI-09")
@pytest.mark.needs_kernel("PCI_SIOV")
def test_a_bridge_that_carries_the_capability_is_no_pf(
    machine: Machine, guest: Guest, introspection: KernelState
) -> None:
    port = machine.function("rp1")
    port.remove()
    machine.overlay("rp1").add(SIOV)
    guest.rescan()
    found = kept(introspection, port)
    assert (found.is_physfn, found.is_siov) == (False, False)
