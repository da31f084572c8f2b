# SPDX-License-Identifier: GPL-2.0-or-later
"""Chains of extended capabilities that lead nowhere, or round in a circle: no kernel may follow them for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sriov_cases import STUB, hand_over, settle

from harness.device import capabilities
from harness.device.overlay import Overlay, body
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

SRIOV, VSEC, UNKNOWN = 0x10, 0x0B, 0x42
"""IDs of extended capabilities; the last is nobody's."""
NO_DEVICE = 0xFFFE
"""A device ID that no driver and no quirk of the kernel's looks for."""
HEAD = 0x100
"""Where the chain begins."""
pytestmark = pytest.mark.usefixtures("shared_machine")

models = pytest.mark.parametrize(
    "machine",
    [pytest.mark.machine(name).mark for name in ("igb-sriov", "nvme-sriov")],
    indirect=True,
    ids=["igb", "nvme"],
)


@pytest.fixture
def chain(machine: Machine, guest: Guest, pf: Function, overlay: Overlay) -> Iterator[Overlay]:
    """The overlay of a PF that the kernel has forgotten, and finds again, as it is, when the test is over."""
    pf.remove()
    yield overlay
    if pf.exists:
        pf.remove()
    machine.overlays.clear()
    guest.rescan()
    assert "sriov_numvfs" in pf.attributes()


def works(guest: Guest, pf: Function) -> bool:
    """Tell whether a function is a PF; then it must have VFs."""
    if "sriov_numvfs" not in pf.attributes():
        return False
    hand_over(guest, pf, STUB)
    pf.numvfs = 2
    assert len(pf.vfs) == 2
    settle(guest, pf, STUB)
    return True


@models
@pytest.mark.parametrize(
    "following", [0x100, SRIOV, 0x040, 0x0FC, 0xFFC], ids=["first", "itself", "header", "below", "end"]
)
def test_what_comes_before_the_fault_is_found(guest: Guest, pf: Function, chain: Overlay, following: int) -> None:
    """The SR-IOV capability's own pointer is the fault."""
    at = chain.config.find(SRIOV)
    chain.config.link(at, at if following == SRIOV else following)
    guest.rescan()
    assert works(guest, pf)


@models
@pytest.mark.parametrize("following", [0x100, 0x040, 0xFFC], ids=["itself", "header", "end"])
def test_what_comes_behind_the_fault_is_not(guest: Guest, pf: Function, chain: Overlay, following: int) -> None:
    """The first capability's pointer is the fault."""
    assert chain.config.find(SRIOV) != HEAD
    chain.config.link(HEAD, following)
    guest.rescan()
    assert not works(guest, pf)


@models
@pytest.mark.parametrize("header", [0xFFFFFFFF, 0], ids=["ones", "zeros"])
@pytest.mark.parametrize("at", [HEAD, SRIOV], ids=["first", "sriov"])
def test_a_header_that_is_none_ends_the_chain(guest: Guest, pf: Function, chain: Overlay, at: int, header: int) -> None:
    chain.show(HEAD if at == HEAD else chain.config.find(SRIOV), header.to_bytes(4, "little"))
    guest.rescan()
    assert not works(guest, pf)


def circle(chain: Overlay, kind: int) -> None:
    """Show as many capabilities of a kind as there is room for, the last of which leads back to the chain's head."""
    places = list(range(0x400, 0x1000, 8))
    for at, following in zip(places, [*places[1:], HEAD], strict=True):
        chain.show(at, header(kind, following) + bytes(4))
    chain.config.link(HEAD, places[0])


def header(kind: int, following: int) -> bytes:
    return (kind | 1 << 16 | following << 20).to_bytes(4, "little")


@models
def test_a_long_circle_comes_to_an_end(guest: Guest, pf: Function, chain: Overlay) -> None:
    circle(chain, UNKNOWN)
    guest.rescan()
    assert not works(guest, pf)


@pytest.mark.machine("igb-sriov")
@pytest.mark.known_bug(
    "pci_find_vsec_capability() follows a circle of vendor-specific capabilities for ever, on a device of the vendor's "
    "whom a quirk asks about (Intel's: set_pcie_thunderbolt())",
    match="rescan: nothing within|self-detected stall|soft lockup",
)
def test_a_circle_of_vendor_specific_capabilities_comes_to_an_end(guest: Guest, pf: Function, chain: Overlay) -> None:
    circle(chain, VSEC)
    guest.rescan()
    assert not works(guest, pf)


@models
@pytest.mark.parametrize("place", ["before", "behind"])
def test_of_two_capabilities_of_one_kind_the_first_counts(
    guest: Guest, pf: Function, chain: Overlay, place: str
) -> None:
    """A second SR-IOV capability, which declares one VF, stands before the true one or behind it."""
    other = capabilities.sriov(total_vfs=1, first_vf_offset=1, vf_stride=1)
    true, total = chain.config.find(SRIOV), chain.config["sriov_total_vfs"]
    if place == "before":
        chain.add(other)  # behind the chain's head
    else:
        chain.show(0xF00, header(SRIOV, 0) + body(other))
        chain.config.link(true, 0xF00)
    guest.rescan()
    hand_over(guest, pf, STUB)  # igb would have one VF less
    assert pf.totalvfs == (1 if place == "before" else total)


@models
def test_a_function_that_is_all_ones_is_no_function(guest: Guest, pf: Function, chain: Overlay) -> None:
    with chain.faults.all_ones():
        guest.rescan()
        assert not pf.exists
    guest.rescan()
    assert works(guest, pf)


@models
@pytest.mark.parametrize("after", [1, 4, 10, 20, 40])
def test_a_function_that_is_gone_in_the_midst_of_discovery_breaks_nothing(
    guest: Guest, pf: Function, chain: Overlay, after: int
) -> None:
    """It is nobody's: what a driver does with half a device is its own affair, and may take it minutes."""
    chain.config["device_id"], chain.config["class_code"] = NO_DEVICE, 0xFF0000
    with chain.faults.all_ones(after=after):
        guest.rescan()
        if pf.exists:
            pf.remove()
    chain.clear()
    guest.rescan()
    assert works(guest, pf)
