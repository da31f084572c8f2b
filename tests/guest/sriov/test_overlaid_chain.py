# SPDX-License-Identifier: GPL-2.0-or-later
"""Chains of extended capabilities that lead nowhere, or round in a circle: no kernel may follow them for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sriov_cases import STUB, hand_over, settle

from harness.device import capabilities
from harness.device.overlay import Overlay
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

ARI, SRIOV, HEAD = 0x0E, 0x10, 0x100
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


@models
def test_a_long_circle_comes_to_an_end(guest: Guest, pf: Function, chain: Overlay) -> None:
    """As many capabilities as there is room for, the last of which leads back to the first."""
    places = list(range(0x400, 0x1000, 8))
    for at, following in zip(places, [*places[1:], HEAD], strict=True):
        chain.show(at, (0x0B | 1 << 16 | following << 20).to_bytes(4, "little") + bytes(4))
    own = int.from_bytes(chain.own()[HEAD : HEAD + 4], "little")
    chain.show(HEAD, (own & 0xFFFFF | places[0] << 20).to_bytes(4, "little"))
    guest.rescan()
    assert not works(guest, pf)


@models
@pytest.mark.parametrize("following", ["first", "second"])
def test_of_two_capabilities_of_one_kind_the_first_counts(
    guest: Guest, pf: Function, chain: Overlay, following: str
) -> None:
    """A second SR-IOV capability, which declares other VFs, stands before the true one or behind it."""
    other = capabilities.sriov(total_vfs=1, first_vf_offset=1, vf_stride=1)
    if following == "first":
        chain.add(other)  # behind the chain's head, before the rest
    else:
        at = chain.config.find(SRIOV)
        added = chain.add(other.placed(0xF00))
        added.end()
        body = bytearray(other.size - 4)
        for register in other.registers:
            body[register.offset - 4 : register.end - 4] = register.value.to_bytes(register.size, "little")
        own = int.from_bytes(chain.own()[at : at + 4], "little")
        chain.show(0xF00, (0x10 | 1 << 16 | (own >> 20) << 20).to_bytes(4, "little") + bytes(body))
        chain.config.link(at, 0xF00)
    guest.rescan()
    assert pf.totalvfs == (1 if following == "first" else int(chain.config["sriov_total_vfs"]))


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
    with chain.faults.all_ones(after=after):
        guest.rescan()
        if pf.exists:
            pf.remove()
    guest.rescan()
    assert works(guest, pf)
