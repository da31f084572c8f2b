# SPDX-License-Identifier: GPL-2.0-or-later
"""The device driven from user space through vfio-pci, its DMA and interrupts behind an emulated IOMMU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from errno import EINVAL

import pytest
from siov_cases import the_capability

from harness import chain
from harness.device.capabilities import SIOV
from harness.device.device import Device
from harness.device.log import Kind
from harness.device.siov import COMPLETION, DESCRIPTOR, DOORBELLS, REGISTERS, Error, SiovDevice
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.vfio import CONFIG, Memory, VfioUser
from harness.machine.machine import Machine

IOVA = 0x1000_0000
QUEUE, COMPLETED, SOURCE, DESTINATION = 0x0000, 0x0040, 0x1000, 0x2000
DATA = bytes(range(251)) * 10

pytestmark = pytest.mark.machine("siov-viommu")


@dataclass
class Driver:
    """A driver of the SIOV device in the guest's user space."""

    user: VfioUser
    device: SiovDevice
    memory: Memory
    events: list[int]

    def register(self, name: str) -> int:
        at = self.device.bars[REGISTERS].register(name).offset
        return int.from_bytes(self.user.read(REGISTERS, at, 4), "little")

    def set(self, name: str, value: int) -> None:
        self.user.write(REGISTERS, self.device.bars[REGISTERS].register(name).offset, value.to_bytes(4, "little"))

    def enable(self, sdi: int) -> None:
        self.set("select", sdi)
        self.set("control", 1)

    def ring(self, sdi: int, *, source: int = IOVA + SOURCE, vector: int = 0, tag: int = 1) -> None:
        copy = DESCRIPTOR.pack(source, IOVA + DESTINATION, IOVA + COMPLETED, len(DATA), vector, tag)
        self.user.store(self.memory, QUEUE, copy)
        self.user.write(DOORBELLS, 4 * sdi, (IOVA + QUEUE >> 6).to_bytes(4, "little"))

    def completion(self) -> tuple[int, ...]:
        return COMPLETION.unpack(self.user.load(self.memory, COMPLETED, COMPLETION.size))


@pytest.fixture
def bound(pf: Function) -> Function:
    """The function, bound to vfio-pci, which this machine's guest has loaded."""
    pf.override("vfio-pci")
    return pf


def test_a_pf_without_vfs_has_no_vf_token(guest: Guest, bound: Function) -> None:
    """Who offers one is refused (vfio_pci_validate_vf_token, drivers/vfio/pci/vfio_pci_core.c)."""
    with raises_errno(EINVAL):
        VfioUser(guest, bound, token="2f4d5e66-1c2b-4a53-9d10-7f2f0c3a9b01")  # noqa: S106 - no secret


@pytest.fixture
def user(guest: Guest, bound: Function) -> Iterator[VfioUser]:
    """A process that has the function open."""
    with VfioUser(guest, bound) as opened:
        yield opened


@pytest.fixture
def driver(user: VfioUser, device: Device) -> Driver:
    """A driver with memory for DMA and an event for each vector; the function may do DMA."""
    assert isinstance(device, SiovDevice)
    memory = user.map(IOVA, 0x4000)
    user.store(memory, SOURCE, DATA)
    events = user.enable_msix(device.vectors)
    user.write(CONFIG, 0x04, (6).to_bytes(2, "little"))
    return Driver(user, device, memory, events)


@pytest.mark.parametrize(("sdi", "vector"), [(0, 0), (3, 7)])
def test_a_doorbell_rung_from_user_space_copies_memory_and_interrupts(driver: Driver, sdi: int, vector: int) -> None:
    driver.enable(sdi)
    driver.ring(sdi, vector=vector, tag=0x77)
    assert driver.user.wait(driver.events[vector]) == 1
    assert driver.completion() == (0x77, 0, len(DATA))
    assert driver.user.load(driver.memory, DESTINATION, len(DATA)) == DATA


def test_sdis_take_turns_each_with_its_own_interrupts(driver: Driver) -> None:
    for sdi in (0, 1, 2):
        driver.enable(sdi)
    for turn in range(3):
        for sdi in (0, 1, 2):
            driver.ring(sdi, vector=sdi, tag=turn)
            assert driver.user.wait(driver.events[sdi]) == 1
            assert driver.completion() == (turn, 0, len(DATA))
    assert driver.register("completions") == 3


def test_memory_that_the_user_did_not_map_is_out_of_the_devices_reach(driver: Driver) -> None:
    driver.enable(0)
    driver.ring(0, source=IOVA + 0x4000)
    driver.user.wait(driver.events[0])
    assert driver.completion()[1] == Error.DMA
    assert driver.user.load(driver.memory, DESTINATION, len(DATA)) == bytes(len(DATA))


def test_the_doorbell_of_an_sdi_that_is_not_enabled_reaches_no_memory(driver: Driver) -> None:
    driver.ring(2)
    assert driver.register("error") == Error.NOT_ENABLED
    assert driver.completion() == (0, 0, 0)


def test_the_users_reset_is_a_function_level_reset_and_stops_the_sdis(driver: Driver, pf: Function) -> None:
    driver.enable(1)
    assert the_capability(pf).status == 1
    since = driver.device.log.mark()
    driver.user.reset()
    assert Kind.FLR in [entry.kind for entry in driver.device.log.entries(since=since)]
    assert (the_capability(pf).status, driver.device.enabled) == (0, frozenset())


def test_when_the_user_ends_nothing_goes_on(guest: Guest, driver: Driver, pf: Function) -> None:
    driver.enable(1)
    since = driver.device.log.mark()
    driver.user.close()
    driver.device.log.wait(lambda entry: entry.kind is Kind.FLR, since=since)
    pf.unbind()
    assert (the_capability(pf).status, driver.device.enabled) == (0, frozenset())
    guest.drain()


@pytest.mark.machine("siov-viommu", place="first")
@pytest.mark.machine("siov-viommu", place="middle")
@pytest.mark.row("SI-28")
def test_the_capability_is_hidden_from_users_and_the_others_are_not(user: VfioUser, pf: Function) -> None:
    """SI-28: the table of lengths that vfio-pci knows has nothing for it (drivers/vfio/pci/vfio_pci_config.c).

    Hidden is its place in the chain. Its bytes are there to be read, as all are that vfio-pci knows nothing of.
    """
    shown = user.read(CONFIG, 0, 0x200) + bytes(0xE00)
    seen, there = ([link.id for link in chain.extended(config)] for config in (shown, pf.config()))
    assert SIOV in there
    assert SIOV not in seen
    assert 0x03 in seen  # Device Serial Number


def test_a_device_may_vanish_while_a_user_drives_it(machine: Machine, driver: Driver, guest: Guest) -> None:
    driver.enable(0)
    since = driver.device.log.mark()
    driver.device.disconnect()
    driver.device.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED, since=since)
    assert driver.register("identification") == 0xFFFFFFFF
    driver.ring(0)
    assert driver.completion() == (0, 0, 0)
    driver.user.close()
    # vfio-pci goes on waiting for a minute that the function comes back from a reset (pci_dev_wait()).
    guest.run("true", check=True)
    assert machine.loss is None
