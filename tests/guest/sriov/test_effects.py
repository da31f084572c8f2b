# SPDX-License-Identifier: GPL-2.0-or-later
"""What enabling and disabling VFs does to the hardware, to sysfs and to who listens (sriov_enable, sriov_disable)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sriov_cases import EACH, on, version

from harness.deadline import Deadline
from harness.guest import config_space as pci
from harness.guest.config_space import SriovCapability
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.uevents import Uevent, Uevents
from harness.machine.machine import Machine

shared = pytest.mark.usefixtures("shared_machine")

OPTIONAL_SINCE = (6, 15)
PATIENCE = 30.0
BLOCKED = 0.3
"""Seconds by which a reader is late that waits for a disable: sriov_disable() sleeps for one, with the lock held."""


@pytest.fixture
def uevents(guest: Guest) -> Iterator[Uevents]:
    """All uevents of the guest from now on."""
    listening = Uevents(guest.session)
    yield listening
    listening.close()


def of(pf: Function) -> SriovCapability:
    return pf.config_space.sriov


@pytest.mark.row("SR-50")
@on(*EACH)
@shared
def test_vf_enable_and_memory_space_are_on_while_there_are_vfs(pf: Function) -> None:
    on_the_bus = pf.read("ari_enabled") == "1"
    pf.numvfs = 2
    enabled = of(pf)
    pf.numvfs = 0
    disabled = of(pf)
    assert (enabled.vf_enable, enabled.vf_mse, enabled.ari, enabled.num_vfs) == (True, True, on_the_bus, 2)
    assert (disabled.vf_enable, disabled.vf_mse, disabled.ari, disabled.num_vfs) == (False, False, on_the_bus, 0)


@pytest.mark.row("SR-50")
@on("nvme", "igb-stub")
@shared
def test_what_the_capability_offers_stays_as_it_was(pf: Function) -> None:
    def offered() -> tuple[object, ...]:
        now = of(pf)
        return (
            now.total_vfs, now.initial_vfs, now.dependency_link, now.first_vf_offset, now.vf_stride, now.vf_device_id,
            now.supported_page_sizes, now.system_page_size, now.vf_bars,
        )  # fmt: skip

    before = offered()
    pf.numvfs = 2
    assert offered() == before
    pf.numvfs = 0
    assert offered() == before


def happened(seen: list[Uevent], function: Function) -> list[str]:
    """Give what happened to a function, in order."""
    return [one.action for one in seen if one.fields.get("PCI_SLOT_NAME") == str(function.bdf)]


@pytest.mark.row("SR-54")
@on(*EACH)
@shared
def test_listeners_hear_of_each_vf_twice_and_of_the_pf_at_last(pf: Function, uevents: Uevents) -> None:
    pf.numvfs = 2
    vfs = pf.vfs
    seen = uevents.seen()
    names = [str(one.bdf) for one in (*vfs, pf)]
    told = [(one.action, one.fields["PCI_SLOT_NAME"]) for one in seen if one.fields.get("PCI_SLOT_NAME") in names]
    # `change`: from here on a listener finds the links between VF and PF (pci_iov_sysfs_link).
    assert [happened(seen, vf)[:2] for vf in vfs] == [["add", "change"], ["add", "change"]]
    assert happened(seen, pf) == ["change"]
    assert all(told.index(("change", names[-1])) > told.index(("change", name)) for name in names[:-1])


@pytest.mark.row("SR-55")
@on(*EACH)
@shared
def test_listeners_hear_of_the_end_of_each_vf_and_nothing_of_the_pf(pf: Function, uevents: Uevents) -> None:
    pf.numvfs = 2
    vfs = pf.vfs
    before = len(uevents.seen())
    pf.numvfs = 0
    seen = uevents.seen()[before:]
    assert [happened(seen, vf)[-1] for vf in vfs] == ["remove", "remove"]
    assert "change" not in happened(seen, pf)


def disabling(guest: Guest, pf: Function, uevents: Uevents) -> None:
    """Begin to disable the VFs of a PF, and wait until the last one is gone: the kernel then sleeps for a second."""
    last = pf.vfs[-1]
    since = len(uevents.seen())
    guest.start(pf.writing("sriov_numvfs", 0))
    uevents.wait(lambda seen: "remove" in happened(list(seen)[since:], last), Deadline(PATIENCE, "the end of the VFs"))


@pytest.mark.row("SR-57")
@on("nvme", "igb-stub")
@shared
def test_who_reads_the_count_meanwhile_waits_until_it_holds(guest: Guest, pf: Function, uevents: Uevents) -> None:
    pf.numvfs = 2
    disabling(guest, pf, uevents)
    assert pf.numvfs == 0


@pytest.mark.row("SR-58")
@on("igb-stub")
@shared
def test_who_reads_configuration_space_meanwhile_waits_too(guest: Guest, pf: Function, uevents: Uevents) -> None:
    assert any(slowest_read(guest, pf, uevents) > BLOCKED for _ in range(3))  # on a busy host the news may come late


def slowest_read(guest: Guest, pf: Function, uevents: Uevents) -> float:
    """Read SR-IOV Control until a disable has cleared VF Enable; gives the seconds that the longest read took."""
    at = of(pf).at + pci.SRIOV_CONTROL
    pf.numvfs = 1
    disabling(guest, pf, uevents)
    longest, enabled = 0.0, True
    while enabled:
        started = time.monotonic()
        enabled = bool(pf.config(at, 1)[0] & pci.VF_ENABLE)
        longest = max(longest, time.monotonic() - started)
    return longest


@pytest.mark.row("SR-59")
@on("igb-stub")
def test_older_kernels_enable_the_memory_of_a_pf_that_nobody_enabled(machine: Machine, pf: Function) -> None:
    """pci_enable_resources() (drivers/pci/setup-res.c) now leaves out what is optional, as are all IOV windows."""
    pf.write_config(pci.COMMAND, bytes(2))  # igb had switched it on
    pf.numvfs = 2
    assert bool(pf.config_space.command & pci.MEMORY_SPACE) == (version(machine) < OPTIONAL_SINCE)
    assert [vf.config_space.capability(pci.EXPRESS) is not None for vf in pf.vfs] == [True, True]


@pytest.mark.row("SR-61")
@on("igb")
@shared
def test_netlink_counts_the_vfs_as_sysfs_does(guest: Guest, pf: Function) -> None:
    [name] = guest.run(["ls", f"{pf.path}/net"], check=True).stdout.split()

    def told() -> int:
        # By its path: the shell has an `ip` of its own, which knows nothing of VFs.
        return guest.run(["/usr/bin/ip", "link", "show", name], check=True).stdout.count("\n    vf ")

    assert told() == 0
    pf.numvfs = 3
    assert told() == 3
    pf.numvfs = 0
    assert told() == 0


@pytest.mark.row("SR-63")
@on("nvme", "igb-stub")
def test_nothing_is_left_of_vfs_that_came_and_went(guest: Guest, pf: Function) -> None:
    def world() -> tuple[object, ...]:
        return guest.functions(), pf.attributes(), guest.read("/proc/iomem")

    before = world()
    for count in (pf.totalvfs, 1):
        pf.numvfs = count
        pf.numvfs = 0
    assert world() == before
    check_leaks(guest)


def check_leaks(guest: Guest) -> None:
    """Have kmemleak look, where the kernel has it: what it finds it also says on the console, and that fails a test."""
    kmemleak = "/sys/kernel/debug/kmemleak"
    if guest.run(["test", "-e", kmemleak]).status == 0:
        # It tells of nothing younger than five seconds (MSECS_MIN_AGE, mm/kmemleak.c).
        guest.run(f"sleep 6; echo scan >{kmemleak}", check=True, timeout=240)
        assert guest.read(kmemleak) == ""
