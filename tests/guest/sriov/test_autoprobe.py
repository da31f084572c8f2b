# SPDX-License-Identifier: GPL-2.0-or-later
"""sriov_drivers_autoprobe, driver_override and the vectors of VFs: which driver a VF meets, and with what."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENODEV, EOPNOTSUPP

import pytest
from sriov_cases import STUB, hand_over, meet, need, on

from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.pytest_plugin.fixtures import LoadModule

shared = pytest.mark.usefixtures("shared_machine")


@pytest.mark.row("SR-01", "SR-80")
@pytest.mark.machine("nvme-sriov")
@pytest.mark.machine("igb-sriov")
@pytest.mark.machine("virtio-sriov")
def test_it_is_on_at_first_and_no_vf_is_there(pfs: list[Function]) -> None:
    (pf,) = pfs  # as its machine came up: the fixture `pf` would set right what is wrong
    assert (pf.read("sriov_drivers_autoprobe"), pf.numvfs, pf.vfs) == ("1", 0, [])


@pytest.mark.row("SR-80")
@on("nvme", "igb")
@shared
def test_it_takes_what_means_yes_or_no(pf: Function) -> None:
    for text, value in (("0", False), ("1", True), ("n", False), ("Y", True), ("off", False), ("on", True)):
        pf.write("sriov_drivers_autoprobe", text)
        assert pf.autoprobe is value


@pytest.mark.row("SR-80")
@on("nvme", "igb")
@shared
def test_it_takes_nothing_else(pf: Function) -> None:
    before = pf.autoprobe
    for text in ("2", "-1", "maybe", "\n", " 1"):
        with raises_errno(EINVAL):
            pf.write("sriov_drivers_autoprobe", text)
    assert pf.autoprobe is before


@pytest.mark.row("SR-81")
@on("igb", "virtio")
@shared
def test_vfs_meet_their_driver_unless_it_is_off(pf: Function, vf_driver: str) -> None:
    pf.numvfs = 1
    meet(vf_driver, pf.vfs[0])
    pf.numvfs = 0
    pf.autoprobe = False
    pf.numvfs = 2
    assert [vf.driver for vf in pf.vfs] == [None, None]


@pytest.mark.row("SR-82", "SR-83")
@on("igb", "virtio")
@shared
def test_while_it_is_off_only_an_override_binds_a_vf(pf: Function, vf_driver: str) -> None:
    pf.autoprobe = False
    pf.numvfs = 1
    (vf,) = pf.vfs
    with raises_errno(ENODEV):
        vf.bind(vf_driver)
    assert vf.driver is None
    vf.override(vf_driver)
    assert vf.driver == vf_driver


@pytest.mark.row("SR-83")
@on("nvme-stub", "igb-stub")
@shared
def test_an_override_binds_a_vf_to_any_driver(guest: Guest, pf: Function) -> None:
    need(guest, "pci-stub")
    pf.autoprobe = False
    pf.numvfs = 1
    (vf,) = pf.vfs
    vf.override("pci-stub")
    assert vf.driver == "pci-stub"


@pytest.mark.row("SR-84")
@on("igb", "virtio")
@shared
def test_it_also_governs_vfs_that_are_there(pf: Function, vf_driver: str) -> None:
    """Against the letter of Documentation/ABI/testing/sysfs-bus-pci: pci_device_can_probe() asks at every probe."""
    pf.numvfs = 1
    (vf,) = pf.vfs
    meet(vf_driver, vf)
    pf.autoprobe = False
    assert vf.driver == vf_driver
    vf.unbind()
    with raises_errno(ENODEV):
        vf.bind(vf_driver)
    pf.autoprobe = True
    vf.bind(vf_driver)
    assert vf.driver == vf_driver


@pytest.mark.row("SR-85")
@on("igb", "nvme")
def test_it_outlives_the_driver_and_not_the_function(guest: Guest, pf: Function) -> None:
    driver = pf.driver
    assert driver is not None
    pf.autoprobe = False
    pf.unbind()
    assert not pf.autoprobe
    pf.bind(driver)
    assert not pf.autoprobe
    pf.remove()
    guest.rescan()
    assert pf.autoprobe


@pytest.mark.row("SR-86")
@on("nvme-stub", "igb")
@shared
def test_vectors_of_vfs_are_no_negative_numbers_and_need_a_callback(pf: Function) -> None:
    pf.autoprobe = False
    pf.numvfs = 1
    (vf,) = pf.vfs
    for text in ("abc", "-1", "1 2", "\n"):
        with raises_errno(EINVAL):
            vf.write("sriov_vf_msix_count", text)
    with raises_errno(EOPNOTSUPP):
        vf.write("sriov_vf_msix_count", 2)


@pytest.mark.row("SR-16", "SR-86")
@on("igb", "nvme")
def test_a_driver_with_the_callbacks_gives_vectors_to_vfs_without_a_driver(
    guest: Guest, pf: Function, guest_module: LoadModule
) -> None:
    given = "/sys/module/iov_pf/parameters/msix_of_vf"
    guest_module("iov-pf")
    pf.override("iov-pf")
    assert pf.read("sriov_vf_total_msix") == "64"
    pf.autoprobe = False
    pf.numvfs = 1
    (vf,) = pf.vfs
    vf.write("sriov_vf_msix_count", 5)
    assert guest.read(given) == "5\n"
    hand_over(guest, vf, STUB)
    with raises_errno(EBUSY):
        vf.write("sriov_vf_msix_count", 6)
    assert guest.read(given) == "5\n"


@pytest.mark.row("SR-84")
@on("igb", "virtio")
@shared
def test_switching_it_on_binds_no_vf_that_is_there(pf: Function, vf_driver: str) -> None:
    pf.autoprobe = False
    pf.numvfs = 1
    pf.autoprobe = True
    assert [vf.driver for vf in pf.vfs] == [None]
    pf.vfs[0].bind(vf_driver)
