# SPDX-License-Identifier: GPL-2.0-or-later
"""pci_sriov_configure_simple() and what is below it (sriov_enable): when they fail, and what is then left."""

from __future__ import annotations

from errno import EEXIST, EINVAL, ENODEV, ENOMEM, ENOSYS

import pytest
from sriov_cases import STUB, hand_over, on, said

from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import IOV_RESOURCES, Function
from harness.pytest_plugin.fixtures import LoadModule

PROBED = "/sys/module/iov_pf/parameters/probed"
"""What pci_sriov_configure_simple() said to the module iov-pf about a function that is no PF."""


@pytest.mark.row("SR-31")
@on("igb")
def test_a_function_that_is_no_pf_is_no_device_to_it(guest: Guest, pf: Function, guest_module: LoadModule) -> None:
    pf.autoprobe = False
    pf.numvfs = 1
    (vf,) = pf.vfs
    guest_module("iov-pf")
    bridge = guest.function("0000:00:00.0")
    for function in (vf, bridge):
        function.override("iov-pf")
        assert int(guest.read(PROBED)) == -ENODEV
        function.unbind()


@pytest.mark.row("SR-03")
@on("virtio")
def test_totalvfs_of_what_is_no_pf_cannot_be_lowered(guest: Guest, pf: Function, guest_module: LoadModule) -> None:
    guest_module("iov-pf", totalvfs=1)
    guest.function("0000:00:00.0").override("iov-pf")
    assert int(guest.read(PROBED)) == -ENOSYS
    pf.override("iov-pf")
    assert (int(guest.read(PROBED)), pf.totalvfs) == (0, 1)


@pytest.mark.row("SR-03")
@on("igb")
def test_totalvfs_cannot_be_raised_above_that_of_the_hardware(
    guest: Guest, pf: Function, guest_module: LoadModule
) -> None:
    guest_module("iov-pf", totalvfs=9)
    pf.override("iov-pf")
    assert (int(guest.read(PROBED)), pf.totalvfs) == (-EINVAL, 8)


@pytest.mark.row("SR-35")
@pytest.mark.machine("nvme-cramped")
def test_vfs_whose_memory_found_no_place_cannot_be_enabled(guest: Guest, stub: Function) -> None:
    assert not any(stub.resources[line].start for line in IOV_RESOURCES)
    mark = guest.log_mark()
    with raises_errno(ENOMEM):
        stub.numvfs = 1
    assert said(guest, mark, "not enough MMIO resources for SR-IOV")
    assert (stub.numvfs, stub.vfs, stub.config_space.sriov.vf_enable) == (0, [], False)


@pytest.mark.row("SR-40")
@pytest.mark.machine("igb-second")
def test_a_dependency_link_to_what_is_no_pf_is_not_supported(stub: Function) -> None:
    """The model of igb names the function at 0 of its slot as the one that it depends on."""
    with raises_errno(ENOSYS):
        stub.numvfs = 1
    assert (stub.numvfs, stub.vfs) == (0, [])
    assert stub.linked("dep_link") is None


@pytest.mark.row("SR-41")
@pytest.mark.machine("igb-pair")
def test_a_dependency_link_to_another_pf_shows_while_there_are_vfs(stubs: list[Function]) -> None:
    first, second = stubs
    assert [pf.config_space.sriov.dependency_link for pf in stubs] == [0, 0]
    second.numvfs = 2
    assert (first.linked("dep_link"), second.linked("dep_link")) == (None, first)
    second.numvfs = 0
    assert second.linked("dep_link") is None


@pytest.mark.row("SR-39")
@pytest.mark.machine("igb-pair")
def test_a_dependency_link_to_a_function_that_is_gone_is_to_no_device(stubs: list[Function]) -> None:
    first, second = stubs
    first.remove()
    with raises_errno(ENODEV):
        second.numvfs = 1
    assert (second.numvfs, second.vfs, second.config_space.sriov.vf_enable) == (0, [], False)


@pytest.mark.row("SR-43")
@on("igb", "nvme")
@pytest.mark.expects_report("duplicate", match="virtfn1")
def test_a_vf_that_cannot_be_added_takes_the_others_along(guest: Guest, pf: Function, guest_module: LoadModule) -> None:
    """The module has made the link that the PF is to have to its VF 1: pci_iov_sysfs_link() fails."""
    before = guest.functions()
    guest_module("iov-pf", taken=1)
    pf.override("iov-pf")
    with raises_errno(EEXIST):
        pf.numvfs = 3
    assert guest.functions() == before
    capability = pf.config_space.sriov
    assert (pf.numvfs, capability.num_vfs, capability.vf_enable, capability.vf_mse) == (0, 0, False, False)
    pf.unbind()
    hand_over(guest, pf, STUB)
    pf.numvfs = 3
    assert len(pf.vfs) == 3


@pytest.mark.row("SR-44")
@on("igb")
def test_vfs_cannot_be_enabled_twice_even_by_a_driver(pf: Function, guest_module: LoadModule) -> None:
    guest_module("iov-pf", answer="twice")
    pf.override("iov-pf")
    with raises_errno(EINVAL):
        pf.numvfs = 2
    assert (pf.numvfs, len(pf.vfs)) == (2, 2)
    pf.numvfs = 0
    assert pf.vfs == []
