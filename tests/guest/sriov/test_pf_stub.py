# SPDX-License-Identifier: GPL-2.0-or-later
"""pci-pf-stub: a PF driver that does nothing but let VFs be enabled (drivers/pci/pci-pf-stub.c)."""

from __future__ import annotations

from errno import ERANGE

import pytest

from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function


@pytest.fixture
def stub(guest: Guest, pf: Function) -> Function:
    """The PF, handed over to pci-pf-stub."""
    guest.run("modprobe pci-pf-stub", check=True)
    pf.override("pci-pf-stub")
    return pf


@pytest.mark.machine("igb-sriov")
def test_an_igb_under_pf_stub_enables_all_eight_vfs(stub: Function) -> None:
    assert stub.driver == "pci-pf-stub"
    assert stub.totalvfs == 8
    stub.numvfs = 8
    assert len(stub.vfs) == 8
    stub.numvfs = 0
    assert stub.vfs == []


@pytest.mark.machine("igb-sriov")
def test_igb_lowers_totalvfs_while_it_is_bound(guest: Guest, pf: Function) -> None:
    assert (pf.driver, pf.totalvfs) == ("igb", 7)
    pf.unbind()
    assert pf.totalvfs == 8
    guest.run("modprobe pci-pf-stub", check=True)
    pf.override("pci-pf-stub")
    with raises_errno(ERANGE):
        pf.numvfs = 9


@pytest.mark.machine("nvme-sriov", sriov_max_vfs=6)
@pytest.mark.machine("igb-sriov")
def test_pf_stub_says_that_it_claims_the_function(guest: Guest, pf: Function) -> None:
    guest.run("modprobe pci-pf-stub", check=True)
    mark = guest.log_mark()
    pf.override("pci-pf-stub")
    assert any("claimed by pci-pf-stub" in line for line in guest.messages(mark))


@pytest.mark.machine("nvme-sriov", sriov_max_vfs=6)
def test_an_nvme_under_pf_stub_enables_every_vf(stub: Function) -> None:
    stub.numvfs = 6
    assert len(stub.vfs) == 6
    stub.numvfs = 0
    assert stub.vfs == []
