# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes to sriov_numvfs: what is accepted, what is refused, in which order (sriov_numvfs_store, drivers/pci/iov.c)."""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, ENOENT, ENOSPC, ERANGE

import pytest
from sriov_cases import DRIVERS, EACH, EVERY, hand_over, on, places, said

from harness.guest import agent
from harness.guest.agent import Agent, raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.pytest_plugin.fixtures import LoadModule

SETRESUID = 117
"""The system call on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl)."""
NOBODY = 65534

shared = pytest.mark.usefixtures("shared_machine")


@pytest.mark.row("SR-60")
@on(*EVERY)
@shared
def test_every_vf_can_be_enabled_and_disabled(guest: Guest, pf: Function) -> None:
    before = guest.functions()
    pf.numvfs = pf.totalvfs
    assert pf.numvfs == pf.totalvfs
    assert [vf.physfn for vf in pf.vfs] == [pf] * pf.totalvfs
    pf.numvfs = 0
    assert (pf.numvfs, pf.vfs) == (0, [])
    assert guest.functions() == before


@pytest.mark.row("SR-60", "SR-51")
@on("nvme")
@shared
def test_any_number_of_vfs_can_be_enabled(pf: Function) -> None:
    for count in range(1, pf.totalvfs):
        pf.numvfs = count
        assert [vf.bdf for vf in pf.vfs] == places(pf, count)
        pf.numvfs = 0


# Not a write of no bytes at all, which never reaches the driver core.
@pytest.mark.row("SR-20", "SR-21")
@on("igb", "nvme")
@shared
def test_what_is_no_16_bit_number_is_invalid(pf: Function) -> None:
    for text in ("abc", "\n", " 1", "-1", "1 2", "1\n\n", "0x", "65536", "99999999999"):
        with raises_errno(EINVAL):
            pf.write("sriov_numvfs", text)
    assert pf.numvfs == 0


@pytest.mark.row("SR-22")
@on(*EVERY)
@shared
def test_more_than_totalvfs_is_out_of_range(pf: Function) -> None:
    for count in (pf.totalvfs + 1, 65535):
        with raises_errno(ERANGE):
            pf.numvfs = count
    assert pf.numvfs == 0


@pytest.mark.row("SR-22")
@on(*DRIVERS)
@shared
def test_the_range_is_checked_before_the_driver(pf: Function) -> None:
    pf.unbind()
    with raises_errno(ERANGE):
        pf.numvfs = 65535


@pytest.mark.row("SR-23")
@on("nvme")
@pytest.mark.parametrize(("text", "count"), [("0x2", 2), ("03\n", 3), ("+1", 1)])
@shared
def test_a_number_may_be_hexadecimal_or_octal_have_a_plus_and_a_newline(pf: Function, text: str, count: int) -> None:
    pf.write("sriov_numvfs", text)
    assert (pf.numvfs, len(pf.vfs)) == (count, count)


@pytest.mark.row("SR-23")
@on("igb-stub")
@shared
def test_ten_with_a_leading_zero_is_eight(pf: Function) -> None:
    pf.write("sriov_numvfs", "010")
    assert pf.numvfs == 8


@pytest.mark.row("SR-24")
@on(*DRIVERS)
@shared
def test_the_present_count_is_accepted_again_and_changes_nothing(pf: Function) -> None:
    pf.numvfs = 0
    pf.numvfs = 2
    vfs = pf.vfs
    pf.numvfs = 2
    assert pf.vfs == vfs


@pytest.mark.row("SR-24")
@on(*DRIVERS)
@shared
def test_the_present_count_is_accepted_even_without_a_driver(guest: Guest, pf: Function) -> None:
    pf.unbind()
    mark = guest.log_mark()
    pf.numvfs = 0
    assert not said(guest, mark, "no driver bound")


@pytest.mark.row("SR-25")
@on(*DRIVERS)
@shared
def test_without_a_driver_there_is_no_entry_and_the_log_says_why(guest: Guest, pf: Function) -> None:
    pf.unbind()
    mark = guest.log_mark()
    with raises_errno(ENOENT):
        pf.numvfs = 1
    assert said(guest, mark, "no driver bound to device; cannot configure SR-IOV")


@pytest.mark.row("SR-26")
@on("igb", "nvme")
@shared
def test_a_driver_without_sriov_configure_gives_no_entry(guest: Guest, pf: Function) -> None:
    hand_over(guest, pf, "pci-stub")
    mark = guest.log_mark()
    with raises_errno(ENOENT):
        pf.numvfs = 1
    assert said(guest, mark, "driver does not support SR-IOV configuration via sysfs")


@pytest.mark.row("SR-27")
@on(*EACH)
@shared
def test_changing_a_nonzero_count_is_busy_and_says_so(guest: Guest, pf: Function) -> None:
    pf.numvfs = 1
    vfs = pf.vfs
    mark = guest.log_mark()
    with raises_errno(EBUSY):
        pf.numvfs = 2
    assert (pf.numvfs, pf.vfs) == (1, vfs)
    assert said(guest, mark, "1 VFs already enabled. Disable before enabling 2 VFs")


@pytest.mark.row("SR-27")
@on("igb-stub")
@shared
def test_fewer_vfs_are_a_change_too(pf: Function) -> None:
    pf.numvfs = 3
    with raises_errno(EBUSY):
        pf.numvfs = 1
    assert (pf.numvfs, len(pf.vfs)) == (3, 3)


@pytest.mark.row("SR-28")
@on("igb", "nvme")
def test_a_driver_that_enables_fewer_succeeds_and_the_log_says_so(
    guest: Guest, pf: Function, guest_module: LoadModule
) -> None:
    guest_module("iov-pf", answer="fewer")
    pf.override("iov-pf")
    mark = guest.log_mark()
    pf.numvfs = 3
    assert (pf.numvfs, len(pf.vfs)) == (2, 2)
    assert said(guest, mark, "3 VFs requested; only 2 enabled")


@pytest.mark.row("SR-29")
@pytest.mark.parametrize("errno", [ENOSPC, EBUSY])
@on("igb")
def test_the_error_of_a_driver_reaches_the_writer(pf: Function, guest_module: LoadModule, errno: int) -> None:
    guest_module("iov-pf", answer="refuse", refusal=-errno)
    pf.override("iov-pf")
    with raises_errno(errno):
        pf.numvfs = 1
    assert (pf.numvfs, pf.vfs) == (0, [])


@pytest.mark.row("SR-30")
@on("igb", "nvme")
@shared
def test_who_is_not_root_may_read_and_not_write(guest: Guest, pf: Function) -> None:
    user = Agent(guest.session)  # a process of its own
    try:
        agent.result(user.call(agent.syscall(SETRESUID, NOBODY, NOBODY, NOBODY, what="becoming nobody")))
        assert user.call(pf.reading("sriov_numvfs")).value() == b"0\n"
        assert user.call(pf.writing("sriov_numvfs", 1)).errno == EACCES
    finally:
        user.close()
    assert pf.numvfs == 0


@pytest.mark.row("SR-30")
@on("igb")
@shared
def test_a_write_of_nothing_changes_nothing(pf: Function) -> None:
    pf.numvfs = 2
    pf.write("sriov_numvfs", b"")
    assert (pf.numvfs, len(pf.vfs)) == (2, 2)


@pytest.mark.row("SR-51")
@on(*DRIVERS)
@shared
def test_vfs_are_where_offset_and_stride_put_them(pf: Function) -> None:
    pf.numvfs = 2
    assert [vf.bdf for vf in pf.vfs] == places(pf, 2)
