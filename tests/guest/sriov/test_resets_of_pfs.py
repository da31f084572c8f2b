# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions that are reset while there are VFs (sriov_restore_state, drivers/pci/iov.c)."""

from __future__ import annotations

from contextlib import suppress
from errno import ENOTTY

import pytest
from sriov_cases import on, said, version

from harness.guest import config_space as pci
from harness.guest.agent import GuestErrno, raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.tracing import traced
from harness.machine.machine import Machine

CLASS = 0x08
"""Where Revision ID and Class Code lie: a VF answers there, which has no Vendor ID of its own."""


WARNS_OF_ITSELF = pytest.mark.known_bug(
    "powering up a PF of unknown power state, the kernel writes VF BARs while VF Enable is on, and warns of itself",
    kernels=("6.12.*",),
    match="pci_iov_update_resource",
)
"""pci_set_power_state() of an 82576 whose driver let go of it, by way of pci_restore_bars() (drivers/pci/pci.c)."""


@pytest.mark.row("SR-110", "SR-112")
@on("nvme-stub")
@pytest.mark.usefixtures("shared_machine")
def test_a_pf_that_is_reset_has_its_vfs_again(machine: Machine, guest: Guest, pf: Function) -> None:
    check_reset(machine, guest, pf)


@pytest.mark.row("SR-110", "SR-112")
@on("igb-stub")
@WARNS_OF_ITSELF
def test_a_pf_of_unknown_power_state_that_is_reset_has_its_vfs_again(
    machine: Machine, guest: Guest, pf: Function
) -> None:
    check_reset(machine, guest, pf)


def check_reset(machine: Machine, guest: Guest, pf: Function) -> None:
    """A function-level reset clears VF Enable; the kernel restores page size, BARs, ARI, the count and VF Enable."""
    pf.numvfs = 2
    vfs = pf.vfs
    before, of_vfs = pf.config_space.sriov, [vf.config(CLASS, 4) for vf in vfs]
    mark = guest.log_mark()
    pf.write("reset_method", "flr")
    pf.reset()
    assert pf.config_space.sriov == before
    assert [vf.config(CLASS, 4) for vf in vfs] == of_vfs
    assert (pf.numvfs, pf.vfs) == (2, vfs)
    if version(machine) >= (7, 0):
        assert said(guest, mark, f"{pf.bdf}: resetting")
        assert said(guest, mark, f"{pf.bdf}: reset done")
    pf.numvfs = 0
    assert pf.vfs == []


@pytest.mark.row("SR-110")
@on("nvme-stub", "igb-stub")
@pytest.mark.usefixtures("shared_machine")
def test_a_pf_without_vfs_has_none_after_a_reset(pf: Function) -> None:
    before = pf.config_space.sriov
    pf.write("reset_method", "flr")
    pf.reset()
    assert pf.config_space.sriov == before
    assert (pf.numvfs, pf.vfs) == (0, [])


@pytest.mark.row("SR-111")
@on("igb-stub")
@WARNS_OF_ITSELF
def test_vfs_that_survive_a_reset_are_left_alone(pf: Function) -> None:
    """A way through D3hot keeps VF Enable on in QEMU's igb: sriov_restore_state() then has nothing to do."""
    pf.numvfs = 2
    vfs, before = pf.vfs, pf.config_space.sriov
    of_vfs = [vf.config(CLASS) for vf in vfs]
    pf.write("reset_method", "pm")
    pf.reset()
    assert pf.config_space.sriov == before
    assert [vf.config(CLASS) for vf in vfs] == of_vfs


@pytest.mark.row("SR-116")
@on("nvme-stub")
@pytest.mark.usefixtures("shared_machine")
def test_ari_is_restored_before_the_number_of_vfs(guest: Guest, pf: Function) -> None:
    """What a PF says of offset and stride may depend on both, and is read anew with the latter."""
    pf.numvfs = 2
    at = pf.config_space.sriov.at
    pf.write("reset_method", "flr")
    with traced(guest, "pci_write_config_word", argument=2) as writes:
        pf.reset()
        restored = [call.argument - at for call in writes.calls if call.argument is not None]
    written = [place for place in restored if place in (pci.SRIOV_CONTROL, pci.SRIOV_NUM_VFS)]
    assert written == [pci.SRIOV_CONTROL, pci.SRIOV_NUM_VFS, pci.SRIOV_CONTROL]


@pytest.mark.row("SR-113")
@on("nvme-stub")
def test_a_bus_with_vfs_cannot_be_reset(guest: Guest, pf: Function) -> None:
    """pci_parent_bus_reset() wants the function to be alone on its bus; `reset_method` still lists it."""
    assert "bus" in pf.read("reset_method").split()
    pf.write("reset_method", "bus")
    pf.numvfs = 1
    vfs = pf.vfs
    with traced(guest, "pcibios_reset_secondary_bus") as bus_reset:
        with raises_errno(ENOTTY):
            pf.reset()
        assert bus_reset.calls == []
        assert pf.vfs == vfs
        pf.numvfs = 0
        with suppress(GuestErrno):  # behind QEMU's port Linux 7 waits for a link that never comes up
            pf.reset()
        assert len(bus_reset.calls) == 1


@pytest.mark.row("SR-115")
@on("nvme-stub", "igb-stub")
@pytest.mark.usefixtures("shared_machine")
def test_a_vf_that_is_reset_leaves_the_others_alone(pf: Function) -> None:
    pf.autoprobe = False
    pf.numvfs = 3
    first, *others = pf.vfs
    before = [one.config(CLASS) for one in (pf, *others)]
    first.write("reset_method", "flr")
    first.reset()
    assert [one.config(CLASS) for one in (pf, *others)] == before
    assert (pf.numvfs, pf.vfs) == (3, [first, *others])
    assert first.config_space.capability(pci.EXPRESS) is not None
