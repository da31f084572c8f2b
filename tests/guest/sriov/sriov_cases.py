# SPDX-License-Identifier: GPL-2.0-or-later
"""The PFs that the SR-IOV suite has, each under its own driver or under pci-pf-stub, and what tests ask of them."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.guest import module
from harness.guest.guest import Guest
from harness.guest.pci import Bdf, Function
from harness.machine.machine import Machine

STUB = "pci-pf-stub"
PROFILES = {"nvme": "nvme-sriov", "igb": "igb-sriov", "virtio": "virtio-sriov"}
DRIVERS = {"nvme": "nvme", "igb": "igb", "virtio": "virtio-pci"}
"""By what each PF is driven when nobody says otherwise. Only nvme's is wired to pci_sriov_configure_simple()."""
VF_DRIVERS = {"igb": "igbvf", "virtio-pci": "virtio-pci"}
"""Drivers of the VFs of each PF, by the PF's driver: they take a VF that they are shown."""
SIMPLE = ("nvme", "nvme-stub", "igb-stub", "virtio-stub")
"""PFs whose number of VFs is set by pci_sriov_configure_simple()."""
OWN = ("igb", "virtio")
"""PFs whose driver has a callback of its own."""
EVERY = (*SIMPLE, *OWN)
EACH = ("nvme", "igb-stub", "virtio")
"""Each model once, and each way of driving one: for what takes its time, and igb takes twice the others'."""


def on(*names: str) -> pytest.MarkDecorator:
    """Make a case of each PF named: `nvme` under its own driver, `nvme-stub` under pci-pf-stub, and so on."""
    return pytest.mark.parametrize(("machine", "pf"), [_case(name) for name in names], indirect=True, ids=names)


def _case(name: str) -> tuple[pytest.Mark, str]:
    kind, _, stub = name.partition("-")
    return pytest.mark.machine(PROFILES[kind]).mark, STUB if stub else DRIVERS[kind]


def hand_over(guest: Guest, function: Function, driver: str) -> None:
    """Give a function to a driver that its kernel has or can load, whatever it is bound to now."""
    if function.driver == driver:
        return
    need(guest, driver)
    function.override(driver)


def settle(guest: Guest, pf: Function, driver: str) -> None:
    """Have a PF under a driver, with no VFs, which are to meet theirs: whatever the test before left."""
    if pf.numvfs:
        hand_over(guest, pf, pf.driver or STUB)  # without any, nobody could disable them
        pf.numvfs = 0
    if not pf.autoprobe:
        pf.autoprobe = True
    hand_over(guest, pf, driver)


def is_pf(function: Function) -> bool:
    """Tell whether the kernel takes a function for a PF by SR-IOV."""
    return any(name.startswith("sriov_") for name in function.attributes())


def need(guest: Guest, driver: str) -> None:
    """Load a driver, unless it is there."""
    if not guest.driver(driver).exists:
        module.load_own(guest, driver)


def meet(driver: str, vf: Function) -> None:
    """Wait until a VF is bound to its driver: Linux 7 probes some drivers' devices after the write has returned."""
    deadline = Deadline(30, f"{vf} to meet {driver}")
    while vf.driver != driver:
        deadline.check()


def places(pf: Function, count: int) -> list[Bdf]:
    """Give the addresses that the first VFs of a PF have, by its own account."""
    first = pf.bdf.routing_id + pf.offset
    return [Bdf.from_routing_id(first + number * pf.stride) for number in range(count)]


def move_vfs(machine: Machine, device: str, places: list[Bdf]) -> None:
    """Have the VFs of QEMU's PF `device` answer at these places, the first at the first, instead of at their own."""
    for number, bdf in enumerate(places):
        machine.overlay(device, vf=number).answer_at(bdf.routing_id)


def said(guest: Guest, mark: str, words: str) -> bool:
    """Tell whether the kernel has said something since a mark."""
    return any(words in line for line in guest.messages(mark))


def version(machine: Machine) -> tuple[int, int]:
    """Give the version of the machine's kernel, by which a few things that it does differ."""
    major, minor, *_ = machine.spec.parts.kernel.release.split(".")
    return int(major), int(minor.partition("-")[0])
