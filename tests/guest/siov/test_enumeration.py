# SPDX-License-Identifier: GPL-2.0-or-later
"""A function with SIOV is found, and what its configuration space says reaches user space unchanged."""

from __future__ import annotations

import pytest
from siov_cases import capability, extended_chain, sriov_attributes, the_capability

from harness import chain
from harness.device.capabilities import SIOV
from harness.device.siov import SiovDevice
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

FIELDS = [
    # total, offset, stride, status
    (0, 1, 1, 0x00), (0, 0, 0, 0x01), (1, 1, 0, 0x00), (1, 0xFFFF, 0xFFFF, 0x00), (2, 1, 0, 0xFE), (4, 8, 8, 0xFF),
    (255, 0x100, 0x100, 0x00), (256, 0x80, 2, 0x80), (512, 0x100, 1, 0x00), (512, 0, 0, 0x02), (0xFEFF, 1, 1, 0x01),
    (0xFFFF, 1, 1, 0x00), (0xFFFF, 0xFFFF, 0xFFFF, 0xFF),
]  # fmt: skip


def siov(**parameters: int) -> pytest.MarkDecorator:
    """Mark a test with a machine that has a SIOV device with these fields."""
    return pytest.mark.machine("siov", **parameters)


def for_all_fields(test: object) -> object:
    """Mark a test with a machine for each row of the table."""
    for total, offset, stride, status in FIELDS:
        mark = siov(total_sdis=total, first_sdi_offset=offset, sdi_stride=stride, siov_status=status)
        test = mark(test)
    return test


@for_all_fields
def test_the_capability_is_seen_as_declared(machine: Machine, pf: Function, device: SiovDevice) -> None:
    given = machine.spec.parameters
    found = the_capability(pf)
    assert found.header & 0xFFFFF == 1 << 16 | SIOV
    assert (found.total_sdis, found.first_sdi_offset, found.sdi_stride, found.status) == (
        given["total_sdis"], given["first_sdi_offset"], given["sdi_stride"], given["siov_status"]
    )  # fmt: skip
    assert (found.capabilities, found.reserved) == (0, 0)
    assert extended_chain(pf)[0x100:] == device.config.peek(0x100, 0x100)
    assert sriov_attributes(pf) == set()


@siov()
def test_all_of_its_extended_configuration_space_is_seen_as_declared(pf: Function, device: SiovDevice) -> None:
    assert pf.config(0x100, 0xF00) == device.config.peek(0x100, 0xF00)


@siov(siov_capabilities=0xFFFFFFFF)
@siov(siov_capabilities=0x12345678)
def test_bits_whose_meaning_is_not_public_are_seen_as_declared(machine: Machine, pf: Function) -> None:
    assert the_capability(pf).capabilities == machine.spec.parameters["siov_capabilities"]


@pytest.mark.machine("siov", place="first")
@pytest.mark.machine("siov", place="middle")
@pytest.mark.machine("siov", place="last")
def test_it_is_found_wherever_in_the_chain_it_stands(machine: Machine, pf: Function, device: SiovDevice) -> None:
    ids = [link.id for link in chain.extended(extended_chain(pf))]
    declared = [one.capability.id for one in device.config.capabilities if one.capability.is_extended]
    assert ids == declared
    assert ids.index(SIOV) == {"first": 0, "middle": 1, "last": 3}[str(machine.spec.parameters["place"])]


@pytest.mark.machine("siov")
def test_what_the_kernel_keeps_of_the_function_is_what_it_declared(pf: Function, device: SiovDevice) -> None:
    identity = device.identity
    said = [int(pf.read(name), 16) for name in ("vendor", "device", "class", "subsystem_vendor", "subsystem_device")]
    assert said == [
        identity.vendor_id, identity.device_id, identity.class_code, identity.subsystem_vendor_id, identity.subsystem_id
    ]  # fmt: skip
    assert pf.driver is None


@pytest.mark.machine("siov", total_sdis=1000)
def test_each_bar_is_as_large_as_declared(pf: Function, device: SiovDevice) -> None:
    rows = [[int(word, 16) for word in line.split()] for line in pf.read("resource").splitlines()]
    sizes = [end - start + 1 if end else 0 for start, end, _flags in rows[:6]]
    assert sizes == [device.size(index) for index in range(6)]


@pytest.mark.machine("siov", all_ones_header=True)
def test_a_header_of_all_ones_in_the_chain_does_no_harm(pf: Function) -> None:
    assert [link.id for link in chain.extended(extended_chain(pf))][-1] == 0xFFFF
    assert the_capability(pf).total_sdis == 4


@pytest.mark.machine("siov", siov=False)
@pytest.mark.machine("siov", siov=False, intel_dvsec=True)
def test_a_function_without_the_capability_is_none_with_siov(machine: Machine, pf: Function) -> None:
    assert capability(pf) is None
    assert (0x23 in [link.id for link in chain.extended(extended_chain(pf))]) == machine.spec.parameters["intel_dvsec"]
    assert sriov_attributes(pf) == set()


@pytest.mark.machine("siov", intel_dvsec=True)
def test_intels_older_dvsec_may_stand_beside_the_capability(pf: Function) -> None:
    ids = [link.id for link in chain.extended(extended_chain(pf))]
    assert {0x23, SIOV} <= set(ids)
    assert the_capability(pf).total_sdis == 4


@pytest.mark.row("SI-29")
@pytest.mark.machine("siov")
def test_lspci_walks_it_to_its_end(guest: Guest, pf: Function) -> None:
    done = guest.run(["lspci", "-vvv", "-s", str(pf.bdf)], check=True)
    assert "Process Address Space ID" in done.stdout  # which stands behind it
    assert "<chain broken>" not in done.stdout
    assert "<chain looped>" not in done.stdout
