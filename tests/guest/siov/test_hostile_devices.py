# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that lies, falls silent or vanishes may lose its own function, never the guest."""

from __future__ import annotations

from contextlib import suppress

import pytest
from siov_cases import capability, knows_siov, the_capability

from harness.device.device import CONFIG
from harness.device.log import Kind
from harness.device.siov import SiovDevice
from harness.guest.agent import GuestErrno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

RESCAN = "/sys/bus/pci/rescan"
pytestmark = pytest.mark.machine("siov")


def found_again(guest: Guest, pf: Function) -> bool:
    """Remove the function, let the kernel look for it, and tell whether it found it."""
    pf.write("remove", 1)
    guest.write(RESCAN, "1")
    return pf.exists


def test_a_device_that_answers_all_ones_is_not_found_and_found_when_it_answers(
    guest: Guest, pf: Function, device: SiovDevice
) -> None:
    pf.write("remove", 1)
    with device.faults.all_ones(CONFIG) as fault:
        guest.write(RESCAN, "1")
        assert (pf.exists, fault.happened > 0) == (False, True)
    guest.write(RESCAN, "1")
    assert the_capability(pf).total_sdis == 4


@pytest.mark.parametrize("after", [1, 5, 20, 100])
def test_a_device_may_stop_answering_in_the_middle_of_its_enumeration(
    guest: Guest, pf: Function, device: SiovDevice, after: int
) -> None:
    pf.write("remove", 1)
    with device.faults.all_ones(CONFIG, after=after) as fault:
        guest.write(RESCAN, "1")
        assert fault.happened > 0
    if pf.exists:
        pf.write("remove", 1)
    guest.write(RESCAN, "1")
    assert the_capability(pf).total_sdis == 4


def test_a_device_may_vanish_while_it_is_looked_at(guest: Guest, pf: Function, device: SiovDevice) -> None:
    assert the_capability(pf).total_sdis == 4
    since = device.log.mark()
    device.disconnect()
    device.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED, since=since)
    with suppress(GuestErrno):  # the kernel may have taken notice already
        assert pf.config(0x104, 0xEFC) == b"\xff" * 0xEFC
    pf.write("remove", 1)
    guest.write(RESCAN, "1")
    assert not pf.exists


@pytest.mark.machine("siov", vectors=0)
def test_a_device_may_vanish_and_its_slot_be_used_again(machine: Machine, pf: Function, device: SiovDevice) -> None:
    since = device.log.mark()
    device.disconnect()
    device.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED, since=since)
    machine.unplug("siov0")
    machine.plug("siov0")
    assert the_capability(pf).total_sdis == 4


@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_a_device_may_be_slow(pf: Function, device: SiovDevice, seconds: float) -> None:
    with device.faults.delay(seconds, CONFIG, times=4):
        assert the_capability(pf).total_sdis == 4


@pytest.mark.machine("siov", reply_timeout=500)
def test_a_device_may_leave_one_access_without_an_answer(guest: Guest, pf: Function, device: SiovDevice) -> None:
    fault = device.faults.no_reply(CONFIG, times=1)
    assert pf.config(0x104, 4) == b"\xff" * 4
    assert fault.is_over
    assert the_capability(pf).total_sdis == 4
    assert found_again(guest, pf)


@pytest.mark.parametrize(
    ("field", "offset", "lie"),
    [
        ("total_sdis", 0x8, 0), ("total_sdis", 0x8, 0xFFFF), ("first_sdi_offset", 0xC, 0),
        ("first_sdi_offset", 0xC, 0xFFFF), ("sdi_stride", 0xE, 0xFFFF),
    ],
)  # fmt: skip
def test_a_field_may_be_another_at_the_next_look(
    guest: Guest, machine: Machine, pf: Function, device: SiovDevice, field: str, offset: int, lie: int
) -> None:
    before = the_capability(pf)
    fault = device.faults.wrong_value(CONFIG, device.config.register("siov_header").offset + offset, lie, 2, times=1)
    assert found_again(guest, pf)
    seen = the_capability(pf)
    assert fault.happened == 1
    if not knows_siov(machine):  # else the kernel itself has looked first
        assert seen == before._replace(**{field: lie})
    assert the_capability(pf) == before


@pytest.mark.parametrize("header_type", [0x01, 0x02, 0x7F], ids=hex)
def test_a_header_of_another_type_costs_the_device_its_function_at_most(
    guest: Guest, pf: Function, device: SiovDevice, header_type: int
) -> None:
    pf.write("remove", 1)
    with device.faults.wrong_value(CONFIG, 0x0E, header_type, 1) as fault:
        guest.write(RESCAN, "1")
        assert fault.happened > 0
        if pf.exists:
            pf.write("remove", 1)
    guest.write(RESCAN, "1")
    assert the_capability(pf).total_sdis == 4


@pytest.mark.parametrize("header", [0xFFFFFFFF, 0x00000000, 0x0001FFFE], ids=lambda value: f"{value:08x}")
def test_the_capabilitys_header_may_turn_into_nonsense(
    guest: Guest, pf: Function, device: SiovDevice, header: int
) -> None:
    """All ones, zeros, an ID of nobody. The next pointer is QEMU's: chains that are broken need a device within it."""
    at = device.config.register("siov_header").offset
    pf.write("remove", 1)
    with device.faults.wrong_value(CONFIG, at, header, 4) as fault:
        guest.write(RESCAN, "1")
        assert pf.exists
        assert capability(pf) is None
        assert fault.happened > 0
        pf.write("remove", 1)
    guest.write(RESCAN, "1")
    assert the_capability(pf).total_sdis == 4


def test_interrupts_that_nobody_asked_for_reach_nobody(guest: Guest, device: SiovDevice) -> None:
    for vector in range(device.vectors):
        device.interrupt(vector)
    guest.run("true", check=True)
    assert device.bars[4].peek(0x1000, 1) == b"\xff"  # all pending
