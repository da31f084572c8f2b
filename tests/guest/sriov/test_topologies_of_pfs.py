# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a PF may be, and what ARI has to do with it."""

from __future__ import annotations

import pytest
from sriov_cases import places

from harness.guest import config_space as pci
from harness.guest.pci import Function

TYPE_RCIEP, TYPE_ENDPOINT = 0x9, 0x0
"""Device/Port Type in PCI Express Capabilities: PCI_EXP_TYPE_RC_END, PCI_EXP_TYPE_ENDPOINT."""


def port_type(function: Function) -> int:
    config = function.config_space
    at = config.capability(pci.EXPRESS)
    assert at is not None
    return config.word(at + 2) >> 4 & 0xF


@pytest.mark.row("SR-120")
@pytest.mark.machine("igb-sriov")
def test_behind_a_root_port_ari_is_on(stub: Function) -> None:
    assert stub.read("ari_enabled") == "1"
    stub.numvfs = 2
    assert stub.config_space.sriov.control == pci.VF_ENABLE | pci.VF_MSE | pci.ARI_HIERARCHY
    assert [vf.bdf for vf in stub.vfs] == places(stub, 2)
    assert [port_type(vf) for vf in stub.vfs] == [TYPE_ENDPOINT, TYPE_ENDPOINT]


@pytest.mark.row("SR-121", "SR-42")
@pytest.mark.machine("igb-rciep")
def test_on_the_root_bus_there_is_no_ari_and_vfs_are_part_of_the_root_complex(stub: Function) -> None:
    assert stub.bdf.device != 0
    assert stub.config_space.sriov.dependency_link == 0  # to be read as function 0 of its own slot
    assert stub.read("ari_enabled") == "0"
    stub.numvfs = 2
    assert stub.config_space.sriov.control == pci.VF_ENABLE | pci.VF_MSE
    assert [vf.bdf for vf in stub.vfs] == places(stub, 2)
    assert [port_type(one) for one in (stub, *stub.vfs)] == [TYPE_RCIEP] * 3


@pytest.mark.row("SR-122")
@pytest.mark.machine("igb-sriov", append="pci=noari")
def test_a_kernel_that_may_not_use_ari_creates_vfs_all_the_same(stub: Function) -> None:
    """Real hardware could not route to them; QEMU does."""
    assert stub.read("ari_enabled") == "0"
    stub.numvfs = 2
    assert stub.config_space.sriov.control == pci.VF_ENABLE | pci.VF_MSE
    assert [vf.bdf for vf in stub.vfs] == places(stub, 2)


@pytest.mark.row("SR-123")
@pytest.mark.machine("igb-pair")
@pytest.mark.usefixtures("shared_machine")
def test_of_two_pfs_on_a_bus_the_first_alone_has_ari_hierarchy(stubs: list[Function]) -> None:
    assert [pf.config_space.sriov.ari for pf in stubs] == [True, False]
    for pf in stubs:
        pf.numvfs = 1
    assert [pf.config_space.sriov.ari for pf in stubs] == [True, False]


@pytest.mark.row("SR-124")
@pytest.mark.machine("igb-switch")
def test_below_a_switch_vfs_are_on_the_bus_of_their_pf(stub: Function) -> None:
    above = stub.upstream
    assert above is not None
    assert above.upstream is not None
    assert above.upstream.upstream is not None  # downstream port, upstream port, root port
    assert stub.bdf.bus > 1
    stub.numvfs = 8
    assert [vf.bdf for vf in stub.vfs] == places(stub, 8)
    assert {vf.upstream for vf in stub.vfs} == {above}
    stub.numvfs = 0
    assert stub.vfs == []


@pytest.mark.row("SR-125")
@pytest.mark.machine("igb-pair")
@pytest.mark.usefixtures("shared_machine")
def test_the_vfs_of_two_pfs_on_a_bus_interleave(stubs: list[Function]) -> None:
    first, second = stubs
    for pf in stubs:
        pf.numvfs = 3
    assert [vf.bdf for vf in first.vfs] == places(first, 3)
    assert [vf.bdf for vf in second.vfs] == places(second, 3)
    numbers = sorted(vf.bdf.routing_id for pf in stubs for vf in pf.vfs)
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    first.numvfs = 0
    assert [vf.physfn for vf in second.vfs] == [second] * 3


@pytest.mark.row("SR-60")
@pytest.mark.machine("igb-two")
def test_pfs_on_different_buses_have_nothing_to_do_with_each_other(stubs: list[Function]) -> None:
    one, other = stubs
    one.numvfs = 2
    other.numvfs = 3
    one.numvfs = 0
    assert [len(pf.vfs) for pf in stubs] == [0, 3]
    assert {vf.bdf.bus for vf in other.vfs} == {other.bdf.bus}
