# SPDX-License-Identifier: GPL-2.0-or-later
"""pci-pf-stub: a PF driver that does nothing but let VFs be enabled (drivers/pci/pci-pf-stub.c)."""

from __future__ import annotations

from errno import ENODEV, ENOENT

import pytest
from sriov_cases import SIMPLE, STUB, hand_over, need, on, said

from harness.guest import agent
from harness.guest.agent import raises_errno
from harness.guest.config_space import BUS_MASTER, COMMAND, MEMORY_SPACE
from harness.guest.guest import Guest
from harness.guest.pci import Function

shared = pytest.mark.usefixtures("shared_machine")

LEFT_ENABLED = "driver left SR-IOV enabled after remove"
STUBS = ("nvme-stub", "igb-stub", "virtio-stub")


@pytest.mark.row("SR-70")
@pytest.mark.machine("minimal")
def test_it_asks_for_amazons_function_alone(guest: Guest) -> None:
    shown = guest.run(["/usr/sbin/modinfo", "-F", "alias", STUB])  # not the shell's own
    if guest.driver(STUB).exists:
        pytest.skip(f"{STUB} is built into this kernel, so that it has no alias in a file")
    assert shown.stdout.split() == ["pci:v00001D0Fd00000053sv*sd*bc*sc*i*"]


@pytest.mark.row("SR-70")
@on("nvme", "igb", "virtio")
@shared
def test_it_says_that_it_claims_the_function(guest: Guest, pf: Function) -> None:
    mark = guest.log_mark()
    hand_over(guest, pf, STUB)
    assert pf.driver == STUB
    assert said(guest, mark, "claimed by pci-pf-stub")


@pytest.mark.row("SR-71")
@on("igb", "virtio")
def test_new_id_gives_it_any_pf_at_once(guest: Guest, pf: Function) -> None:
    pf.unbind()
    need(guest, STUB)
    guest.driver(STUB).new_id(pf.vendor, pf.device)
    assert pf.driver == STUB
    pf.numvfs = 1
    assert len(pf.vfs) == 1


@pytest.mark.row("SR-71")
@pytest.mark.machine("igb-sriov")
def test_without_its_id_it_does_not_take_a_pf(guest: Guest, pfs: list[Function]) -> None:
    (pf,) = pfs  # which nobody has handed over yet: that would keep other drivers from it, too
    need(guest, STUB)
    pf.unbind()
    with raises_errno(ENODEV):
        pf.bind(STUB)
    assert pf.driver is None


@pytest.mark.row("SR-72", "SR-73")
@on(*SIMPLE)
@shared
def test_vfs_outlive_its_driver_and_wait_for_the_next(guest: Guest, pf: Function) -> None:
    """No driver that is content with pci_sriov_configure_simple() disables VFs in its remove()."""
    driver = pf.driver
    assert driver is not None
    pf.numvfs = 2
    vfs = pf.vfs
    mark = guest.log_mark()
    pf.unbind()
    assert said(guest, mark, LEFT_ENABLED)
    assert (pf.numvfs, pf.vfs) == (2, vfs)
    with raises_errno(ENOENT):
        pf.numvfs = 0
    pf.bind(driver)
    assert (pf.numvfs, pf.vfs) == (2, vfs)
    pf.numvfs = 0
    assert (pf.numvfs, pf.vfs) == (0, [])


@pytest.mark.row("SR-72")
@on("igb-stub")
def test_unloading_it_leaves_the_vfs_too(guest: Guest, pf: Function) -> None:
    pf.numvfs = 1
    vfs = pf.vfs
    answer = guest.agent.call(agent.remove("pci_pf_stub"))
    if answer.errno == ENOENT:
        pytest.skip(f"{STUB} is built into this kernel")
    answer.value()
    assert (pf.driver, pf.numvfs, pf.vfs) == (None, 1, vfs)


@pytest.mark.row("SR-74")
@on(*STUBS)
@shared
def test_it_leaves_the_function_as_it_finds_it(pf: Function) -> None:
    assert not pf.config_space.command & BUS_MASTER
    assert pf.read("enable") == "0"
    before = pf.config_space.command
    pf.unbind()
    pf.bind(STUB)
    assert pf.config_space.command == before
    assert pf.read("enable") == "0"


@pytest.mark.row("SR-74")
@on("igb-stub")
@shared
def test_a_function_that_was_off_stays_off(pf: Function) -> None:
    pf.unbind()
    pf.write_config(COMMAND, bytes(2))  # igb had switched it on
    pf.bind(STUB)
    pf.numvfs = 0
    assert not pf.config_space.command & (BUS_MASTER | MEMORY_SPACE)


@pytest.mark.row("SR-76")
@pytest.mark.machine("minimal")
@shared
def test_it_takes_a_function_without_sr_iov_without_complaint(guest: Guest) -> None:
    plain = guest.function("0000:00:00.0")  # the host bridge, which no driver has
    hand_over(guest, plain, STUB)
    assert plain.driver == STUB
    assert not any(name.startswith("sriov") for name in plain.attributes())
