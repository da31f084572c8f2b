# SPDX-License-Identifier: GPL-2.0-or-later
"""PF drivers with a sriov_configure of their own: igb (igb_main.c) and virtio_pci (virtio_pci_common.c)."""

from __future__ import annotations

from errno import EBUSY

import pytest
from sriov_cases import OWN, on, said

from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function

shared = pytest.mark.usefixtures("shared_machine")

LEFT_ENABLED = "driver left SR-IOV enabled after remove"


@pytest.mark.row("SR-107")
@on(*OWN)
@shared
def test_they_disable_their_vfs_before_they_let_go_of_the_pf(guest: Guest, pf: Function) -> None:
    driver = pf.driver
    assert driver is not None
    pf.numvfs = 2
    mark = guest.log_mark()
    pf.unbind()
    assert (pf.numvfs, pf.vfs) == (0, [])
    assert not said(guest, mark, LEFT_ENABLED)
    assert not pf.config_space.sriov.vf_enable
    pf.bind(driver)
    assert pf.numvfs == 0
    pf.numvfs = 1
    assert len(pf.vfs) == 1


@pytest.mark.row("SR-79")
@on("igb")
@shared
def test_igb_says_how_many_vfs_it_gave(guest: Guest, pf: Function) -> None:
    mark = guest.log_mark()
    pf.numvfs = 3
    assert said(guest, mark, "3 VFs allocated")
    mark = guest.log_mark()
    pf.numvfs = 0
    assert said(guest, mark, "IOV Disabled")


@pytest.mark.row("SR-78")
@on("virtio")
def test_virtio_gives_no_vfs_before_its_own_driver_runs(guest: Guest, pf: Function) -> None:
    """virtio_pci_sriov_configure() wants the device's status to say DRIVER_OK, and tells nobody."""
    [device] = [name for name in pf.attributes() if name.startswith("virtio")]
    mark = guest.log_mark()
    guest.write("/sys/bus/virtio/drivers/virtio_net/unbind", device)
    with raises_errno(EBUSY):
        pf.numvfs = 1
    assert (pf.numvfs, pf.vfs) == (0, [])
    assert not said(guest, mark, str(pf.bdf))
    guest.write("/sys/bus/virtio/drivers/virtio_net/bind", device)
    pf.numvfs = 1
    assert len(pf.vfs) == 1


@pytest.mark.row("SR-107")
@on(*OWN)
def test_removing_such_a_pf_takes_its_vfs_along(guest: Guest, pf: Function) -> None:
    pf.numvfs = 2
    vfs = pf.vfs
    pf.remove()
    left = guest.functions()
    assert not {pf, *vfs} & set(left)
    guest.rescan()
    assert pf.exists
    assert (pf.numvfs, pf.vfs) == (0, [])
