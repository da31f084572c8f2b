# SPDX-License-Identifier: GPL-2.0-or-later
"""sriov_drivers_autoprobe, driver_override and the vectors of VFs: which driver a VF meets, and with what."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENODEV, EOPNOTSUPP

import pytest
from sriov_cases import DRIVERS, STUB, hand_over, on

from harness.deadline import Deadline
from harness.guest import module
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.pytest_plugin.fixtures import LoadModule

VF_DRIVERS = {"igb": "igbvf", "virtio-pci": "virtio-pci"}
"""Drivers of the VFs of each PF, by the PF's driver: they take a VF that they are shown."""

shared = pytest.mark.usefixtures("shared_machine")


@pytest.fixture
def vf_driver(guest: Guest, pf: Function) -> str:
    """The driver that the VFs of the PF meet, loaded."""
    driver = VF_DRIVERS[pf.driver or ""]
    if not guest.driver(driver).exists:
        module.load_own(guest, driver)
    return driver


def meet(driver: str, vf: Function) -> None:
    """Wait until a VF is bound to its driver: Linux 7 probes it after the write has returned."""
    deadline = Deadline(30, f"{vf} to meet {driver}")
    while vf.driver != driver:
        deadline.check()


@pytest.mark.row("SR-80")
@on("nvme", "igb")
@shared
def test_it_is_on_at_first_and_takes_what_means_yes_or_no(pf: Function) -> None:
    assert pf.read("sriov_drivers_autoprobe") == "1"
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
    if not guest.driver("pci-stub").exists:
        module.load_own(guest, "pci-stub")
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


@pytest.mark.row("SR-80")
@on(*DRIVERS)
@shared
def test_setting_it_changes_no_vf(pf: Function) -> None:
    pf.autoprobe = False
    pf.numvfs = 1
    vfs = pf.vfs
    pf.autoprobe = True
    assert pf.vfs == vfs
    assert pf.numvfs == 1
