# SPDX-License-Identifier: GPL-2.0-or-later
"""PFs that go while they have VFs: by sysfs, with the bridge above them, by hot-unplug; and what a new scan finds."""

from __future__ import annotations

import pytest
from sriov_cases import SIMPLE, hand_over, on, said

from harness.deadline import Deadline
from harness.guest import config_space as pci
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.tracing import traced
from harness.machine.machine import Machine

SLOT_CONTROL, INTERRUPT, INDICATOR_OFF, POWER_OFF = 0x18, 1 << 5, 3 << 8, 1 << 10
"""PCI_EXP_SLTCTL; PCI_EXP_SLTCTL_HPIE, _PWR_IND_OFF, _PCC (include/uapi/linux/pci_regs.h)."""
A_SECOND = 1000
"""Milliseconds that a PF has for its VFs to go (PCI Express Base Specification, 9.3.3.3.1)."""
ZOMBIES = "removing a PF whose driver leaves its VFs enabled leaves them behind, without a PF"
PF_STAYS = "the pci_dev of a PF that is unplugged with its VFs is never freed: each VF's reference to it is lost"


@pytest.mark.row("SR-100")
@on(*SIMPLE)
@pytest.mark.known_bug(ZOMBIES, match="^the VFs are still there")
def test_the_vfs_of_a_pf_that_is_removed_go_with_it(guest: Guest, pf: Function) -> None:
    before = set(guest.functions())
    pf.numvfs = 2
    vfs = set(pf.vfs)
    pf.remove()
    after = set(guest.functions())
    assert after - vfs == before - {pf}, "something else came or went"
    assert not after & vfs, "the VFs are still there"


@pytest.mark.row("SR-101")
@on("nvme", "igb-stub")
@pytest.mark.known_bug(
    "enabling VFs where those of a removed PF were left breaks the kernel",
    match=r"cannot create duplicate filename '[^']*:\d\d\.\d'|sriov_numvfs: ENOENT",
)
def test_a_pf_that_was_removed_with_vfs_and_found_again_takes_new_ones(guest: Guest, pf: Function) -> None:
    driver = pf.driver
    assert driver is not None
    pf.numvfs = 2
    pf.remove()
    guest.rescan()
    assert pf.exists
    hand_over(guest, pf, driver)
    pf.numvfs = 2
    assert [vf.physfn for vf in pf.vfs] == [pf, pf]
    pf.numvfs = 0


@pytest.mark.row("SR-102")
@on("nvme", "virtio-stub")
def test_removing_the_bridge_above_takes_pf_and_vfs_along(guest: Guest, pf: Function) -> None:
    port = pf.upstream
    assert port is not None
    driver = pf.driver
    assert driver is not None
    pf.numvfs = 2
    gone = {port, pf, *pf.vfs}
    port.remove()
    assert not gone & set(guest.functions())
    guest.rescan()
    assert (pf.exists, pf.numvfs, pf.vfs) == (True, 0, [])
    hand_over(guest, pf, driver)
    pf.numvfs = 2
    assert [vf.physfn for vf in pf.vfs] == [pf, pf]


def slot_control(port: Function) -> tuple[int, int]:
    """Tell where a root port's Slot Control lies, and what it says."""
    config = port.config_space
    express = config.capability(pci.EXPRESS)
    assert express is not None
    return express + SLOT_CONTROL, config.word(express + SLOT_CONTROL)


def pull_out(port: Function) -> None:
    """Take away what is in a root port's slot, which nobody has asked the kernel for.

    QEMU does so when the slot's power and its indicator go off (hw/pci/pcie.c, pcie_cap_slot_write_config()).
    """
    at, before = slot_control(port)
    # The kernel is not to hear of it before the power is on again: it would think that somebody had let go properly.
    for control in (before & ~INTERRUPT, before & ~INTERRUPT | POWER_OFF | INDICATOR_OFF, before & ~INTERRUPT, before):
        port.write_config(at, control.to_bytes(2, "little"))


def wait_off(port: Function) -> None:
    """Wait until pciehp has switched a slot off, a second after what was in it is gone: it hears of nothing before."""
    deadline = Deadline(30, "the slot to be off")
    while slot_control(port)[1] & INDICATOR_OFF != INDICATOR_OFF:
        deadline.check()


def check_gone_and_back(machine: Machine, port: Function, left: set[Function], pf: Function) -> None:
    """State that a port's slot is off and only `left` is there, and that the PF comes back to it without VFs."""
    wait_off(port)
    assert set(machine.guest.functions()) == left
    machine.plug("igb0")
    assert (pf.numvfs, pf.vfs) == (0, [])


@pytest.mark.row("SR-103")
@pytest.mark.machine("igb-native")
def test_a_pf_that_is_unplugged_takes_its_vfs_along_and_can_come_back(
    machine: Machine, guest: Guest, stub: Function
) -> None:
    before = set(guest.functions())
    port = stub.upstream
    assert port is not None
    stub.numvfs = 2
    mark = guest.log_mark()
    machine.unplug("igb0")
    assert said(guest, mark, "driver left SR-IOV enabled after remove")
    check_gone_and_back(machine, port, before - {stub}, stub)


@pytest.mark.row("SR-103")
@pytest.mark.machine("igb-native")
@pytest.mark.known_bug(PF_STAYS, match="^assert 2 == 3")
def test_of_a_pf_that_is_unplugged_with_two_vfs_all_three_are_freed(
    machine: Machine, guest: Guest, stub: Function
) -> None:
    stub.numvfs = 2
    with traced(guest, "pci_release_dev") as freed:
        machine.unplug("igb0")
        assert len(freed.calls) == 3


@pytest.mark.row("SR-104")
@pytest.mark.machine("igb-native")
def test_a_pf_that_is_pulled_out_takes_its_vfs_along_and_can_come_back(
    machine: Machine, guest: Guest, stub: Function
) -> None:
    before = set(guest.functions())
    port = stub.upstream
    assert port is not None
    stub.numvfs = 2
    pull_out(port)
    check_gone_and_back(machine, port, before - {stub}, stub)


@pytest.mark.row("SR-105")
@on("igb-stub")
def test_vf_enable_that_was_left_on_is_switched_off_when_the_pf_is_found(guest: Guest, pf: Function) -> None:
    """As a kernel finds it that kexec started, or after a crash; sriov_init() waits for a second."""
    at = pf.config_space.sriov.at
    pf.write_config(at + pci.SRIOV_NUM_VFS, (2).to_bytes(2, "little"))
    pf.write_config(at + pci.SRIOV_CONTROL, (pci.VF_ENABLE | pci.VF_MSE).to_bytes(2, "little"))
    assert pf.config_space.sriov.vf_enable
    pf.remove()
    with traced(guest, "msleep", argument=1) as slept:
        guest.rescan()
        assert A_SECOND in [call.argument for call in slept.calls]
    found = pf.config_space.sriov
    assert (pf.numvfs, pf.vfs, found.vf_enable, found.num_vfs) == (0, [], False, 0)


@pytest.mark.row("SR-102")
@on("igb-stub")
def test_a_pf_without_vfs_is_removed_and_found_again(guest: Guest, pf: Function) -> None:
    before = guest.functions()
    pf.numvfs = 2
    pf.numvfs = 0
    pf.remove()
    assert not pf.exists
    guest.rescan()
    assert guest.functions() == before
    assert pf.numvfs == 0
