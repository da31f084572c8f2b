# SPDX-License-Identifier: GPL-2.0-or-later
"""PFs and VFs that user space drives, by vfio-pci behind an emulated IOMMU."""

from __future__ import annotations

from errno import EACCES, ENOENT

import pytest
from sriov_cases import STUB, hand_over, said, settle

from harness.deadline import Deadline
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.vfio import CONFIG, VfioUser

VFIO = "vfio-pci"
ENABLE_SRIOV = "/sys/module/vfio_pci/parameters/enable_sriov"
TOKEN, OTHER = "2f4d5e66-1c2b-4a53-9d10-7f2f0c3a9b01", "2f4d5e66-1c2b-4a53-9d10-7f2f0c3a9b02"
BRIEFLY = 3.0

pytestmark = [pytest.mark.machine("igb-viommu"), pytest.mark.usefixtures("shared_machine")]


@pytest.mark.row("SR-62")
def test_vfs_have_iommu_groups_of_their_own_as_long_as_they_are_there(guest: Guest, stub: Function) -> None:
    def groups() -> set[str]:
        return set(guest.run(["ls", "/sys/kernel/iommu_groups"], check=True).stdout.split())

    before = groups()
    stub.numvfs = 2
    of_all = {one.iommu_group for one in (stub, *stub.vfs)}
    assert None not in of_all
    assert len(of_all) == 3
    stub.numvfs = 0
    assert groups() == before


@pytest.fixture
def vf(stub: Function) -> Function:
    """The one VF of the PF under pci-pf-stub, bound to vfio-pci."""
    stub.autoprobe = False
    stub.numvfs = 1
    (vf,) = stub.vfs
    vf.override(VFIO)
    return vf


@pytest.mark.row("SR-94")
def test_disabling_waits_for_the_user_of_a_vf(guest: Guest, stub: Function, vf: Function) -> None:
    """VFIO asks the user to let go; meanwhile the writer holds pci_rescan_remove_lock, so that rescans wait too."""
    mark = guest.log_mark()
    with VfioUser(guest, vf) as user:
        request = user.listen_for_request()
        disabling = guest.start(stub.writing("sriov_numvfs", 0))
        assert user.wait(request) >= 1
        assert said(guest, mark, "Relaying device request to user")
        rescanner = guest.process()
        rescan = rescanner.start(guest.rescanning())
        deadline = Deadline(BRIEFLY, "the rescan to wait")
        while not guest.is_blocked(rescanner):
            deadline.check()
        assert [disabling.is_done, rescan.is_done] == [False, False]
        assert vf.exists
    assert (disabling.wait().errno, rescan.wait().errno) == (0, 0)
    assert (stub.numvfs, stub.vfs) == (0, [])


@pytest.mark.row("SR-94")
def test_vfs_that_are_bound_and_not_in_use_do_not_keep_anyone_waiting(stub: Function, vf: Function) -> None:
    stub.numvfs = 0
    assert (stub.numvfs, stub.vfs) == (0, [])
    assert not vf.exists


@pytest.mark.row("SR-93")
@pytest.mark.known_bug(
    "who unbinds a PF from vfio-pci while it is in use waits with the PF's lock held, and readers of sriov_numvfs too",
    match="guest: reading .*/sriov_numvfs: nothing within",
)
def test_the_count_can_be_read_while_an_unbind_waits_for_the_user(guest: Guest, pf: Function) -> None:
    settle(guest, pf, VFIO)
    with VfioUser(guest, pf) as user:
        request = user.listen_for_request()
        unbinding = guest.start(pf.writing("driver/unbind", str(pf.bdf)))
        assert user.wait(request) >= 1
        assert guest.start(pf.reading("sriov_numvfs")).wait(BRIEFLY).value() == b"0\n"
    assert unbinding.wait().errno == 0


@pytest.mark.row("SR-77")
def test_vfio_pci_enables_no_vfs_unless_it_is_told_to(guest: Guest, pf: Function) -> None:
    guest.write(ENABLE_SRIOV, "0")
    settle(guest, pf, VFIO)
    mark = guest.log_mark()
    with raises_errno(ENOENT):
        pf.numvfs = 1
    assert (pf.numvfs, pf.vfs) == (0, [])
    assert not said(guest, mark, str(pf.bdf))


@pytest.fixture
def owned(guest: Guest, pf: Function) -> Function:
    """The PF, bound to vfio-pci, which may enable VFs and has enabled two."""
    guest.write(ENABLE_SRIOV, "1")
    settle(guest, pf, VFIO)
    pf.numvfs = 2
    return pf


@pytest.mark.row("SR-87")
def test_vfs_of_a_pf_in_user_space_are_kept_from_the_kernels_drivers(guest: Guest, owned: Function) -> None:
    log = guest.run("dmesg", check=True).stdout
    for vf in owned.vfs:
        assert f"{owned.bdf}: Captured SR-IOV VF {vf.bdf} driver_override" in log
        assert vf.read("driver_override") == VFIO
    owned.unbind()
    assert (owned.numvfs, owned.vfs) == (0, [])


@pytest.mark.row("SR-87")
def test_the_kernel_warns_of_a_vf_that_gets_another_driver(guest: Guest, owned: Function) -> None:
    vf = owned.vfs[0]
    mark = guest.log_mark()
    hand_over(guest, vf, STUB)
    assert said(guest, mark, f"VF {vf.bdf} bound to driver {STUB} while PF bound to driver {VFIO}")


@pytest.mark.row("SR-88")
def test_users_of_vfs_must_know_the_token_of_the_pfs_user(guest: Guest, owned: Function) -> None:
    for vf in owned.vfs:
        hand_over(guest, vf, VFIO)
    first, second = owned.vfs
    with raises_errno(EACCES):
        VfioUser(guest, first)
    with VfioUser(guest, owned, token=TOKEN), VfioUser(guest, first, token=TOKEN) as user:
        assert user.read(CONFIG, 0x08, 4) == first.config(0x08, 4)
        with raises_errno(EACCES):
            VfioUser(guest, second, token=OTHER)
