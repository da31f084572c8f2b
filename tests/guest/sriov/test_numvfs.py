# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes to sriov_numvfs: what is accepted, what is refused, in which order (sriov_numvfs_store, drivers/pci/iov.c)."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOENT, ERANGE

import pytest

from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Bdf, Function

pytestmark = [
    pytest.mark.machine("nvme-sriov"),
    pytest.mark.machine("igb-sriov"),
    pytest.mark.machine("virtio-sriov"),
]


def test_every_vf_can_be_enabled_and_disabled(pf: Function) -> None:
    pf.numvfs = pf.totalvfs
    assert pf.numvfs == pf.totalvfs
    assert len(pf.vfs) == pf.totalvfs
    pf.numvfs = 0
    assert pf.numvfs == 0
    assert pf.vfs == []


def test_vfs_are_where_offset_and_stride_put_them(pf: Function) -> None:
    pf.numvfs = 2
    first = pf.bdf.routing_id + pf.offset
    assert [vf.bdf for vf in pf.vfs] == [Bdf.from_routing_id(first), Bdf.from_routing_id(first + pf.stride)]


def test_a_vf_names_its_pf_and_disappears_with_the_disable(guest: Guest, pf: Function) -> None:
    before = guest.functions()
    pf.numvfs = 2
    vfs = pf.vfs
    assert [vf.physfn for vf in vfs] == [pf, pf]
    assert pf.physfn is None
    pf.numvfs = 0
    assert guest.functions() == before


# Not a write of no bytes at all, which never reaches the driver core.
@pytest.mark.parametrize("text", ["abc", "\n", " 1", "-1", "1 2", "65536", "99999999999"])
def test_what_is_no_16_bit_number_is_invalid(pf: Function, text: str) -> None:
    with raises_errno(EINVAL):
        pf.write("sriov_numvfs", text)
    assert pf.numvfs == 0


def test_more_than_totalvfs_is_out_of_range(pf: Function) -> None:
    for count in (pf.totalvfs + 1, 65535):
        with raises_errno(ERANGE):
            pf.numvfs = count
    assert pf.numvfs == 0


def test_changing_a_nonzero_count_is_busy_and_says_so(guest: Guest, pf: Function) -> None:
    pf.numvfs = 1
    mark = guest.log_mark()
    with raises_errno(EBUSY):
        pf.numvfs = 2
    assert pf.numvfs == 1
    assert any("1 VFs already enabled. Disable before enabling 2 VFs" in line for line in guest.messages(mark))


def test_the_present_count_is_accepted_again(pf: Function) -> None:
    pf.numvfs = 2
    vfs = pf.vfs
    pf.numvfs = 2
    assert pf.vfs == vfs


def test_without_a_driver_there_is_no_entry_and_the_log_says_why(guest: Guest, pf: Function) -> None:
    pf.unbind()
    mark = guest.log_mark()
    with raises_errno(ENOENT):
        pf.numvfs = 1
    assert any("no driver bound to device; cannot configure SR-IOV" in line for line in guest.messages(mark))


def test_the_range_is_checked_before_the_driver(pf: Function) -> None:
    pf.unbind()
    with raises_errno(ERANGE):
        pf.numvfs = 65535


def test_a_driver_without_sriov_configure_gives_no_entry(guest: Guest, pf: Function) -> None:
    guest.run("modprobe pci-stub", check=True)
    pf.override("pci-stub")
    mark = guest.log_mark()
    with raises_errno(ENOENT):
        pf.numvfs = 1
    assert any("driver does not support SR-IOV configuration via sysfs" in line for line in guest.messages(mark))
