# SPDX-License-Identifier: GPL-2.0-or-later
"""What software sees of a declared function's configuration space through QEMU."""

from __future__ import annotations

import pytest
from functions import IDENTITY, everything, function
from lane_helpers import StartLane

from harness import chain
from harness.device import capabilities
from harness.device.capabilities import SIOV, Capability, Place
from harness.device.registers import Register
from harness.device.siov import SiovDevice
from harness.machine.lane import Lane

QEMUS_OWN = {"command", "status", "msix_control", "express_capabilities", "link_status", "link_capabilities"}
"""Registers of which QEMU keeps bits of its own: what of them reaches the device is tested by itself."""
SIOV_FIELDS = [
    (0, 1, 1, 0), (1, 1, 0, 0), (1, 0xFFFF, 0xFFFF, 0), (4, 1, 1, 1), (255, 1, 1, 0xFF), (256, 0x100, 1, 0x80),
    (512, 1, 1, 0), (512, 0, 0, 2), (0xFEFF, 1, 1, 0), (0xFFFF, 0xFFFF, 0xFFFF, 0xFF),
]  # fmt: skip


def test_a_function_says_who_it_is(start: StartLane) -> None:
    seen = start(function()).function()
    assert (seen.read(0x00, 2), seen.read(0x02, 2)) == (IDENTITY.vendor_id, IDENTITY.device_id)
    assert seen.read(0x08) == IDENTITY.class_code << 8 | IDENTITY.revision
    assert (seen.read(0x2C, 2), seen.read(0x2E, 2)) == (IDENTITY.subsystem_vendor_id, IDENTITY.subsystem_id)


def test_every_capability_is_met_where_it_was_declared_and_in_its_order(start: StartLane) -> None:
    device = function()
    config = start(device).function().config()
    declared = [(one.at, one.capability.id, one.capability.version or 0) for one in device.config.capabilities]
    assert [*map(tuple, chain.capabilities(config)), *map(tuple, chain.extended(config))] == declared
    assert len(declared) == len(everything())


@pytest.fixture(scope="module")
def looked_at(start_shared: StartLane) -> Lane:
    """A function with every capability, which nobody writes to."""
    return start_shared(function())


@pytest.mark.parametrize("index", range(len(everything())), ids=[one.name for one in everything()])
def test_the_body_of_a_capability_is_seen_as_declared(looked_at: Lane, index: int) -> None:
    (device,), seen = looked_at.devices, looked_at.function()
    one = device.config.capabilities[index]
    for register in device.config.registers:
        if one.at < register.offset < one.end and register.name not in QEMUS_OWN:
            found = looked_at.qtest.read_bytes(seen.address + register.offset, register.size)
            assert int.from_bytes(found, "little") == register.value, register.name


@pytest.mark.parametrize("ones", [True, False], ids=["ones", "zeros"])
def test_writing_changes_the_bits_that_are_declared_so_and_no_other(start: StartLane, ones: bool) -> None:
    device = function()
    lane = start(device)
    seen = lane.function()
    for register in device.config.registers:
        if register.name in QEMUS_OWN or register.name.startswith(("bar_", "device_control")):
            continue
        at, size = seen.address + register.offset, register.size
        given = ((1 << 8 * size) - 1 if ones else 0).to_bytes(size, "little")
        lane.qtest.write_bytes(at, given)
        expected = register.value & ~register.rw & ~(register.w1c if ones else 0)
        expected |= register.rw if ones else 0
        assert int.from_bytes(lane.qtest.read_bytes(at, size), "little") == expected, register.name


@pytest.mark.parametrize(
    ("name", "written", "seen_by_device"),
    [("command", 0x0007, 0x0006), ("device_control", 0x001F, 0x001F), ("msix_control", 0xC003, 0xC003)],
)
def test_what_is_written_to_a_register_of_qemus_own_reaches_the_device_too(
    start: StartLane, name: str, written: int, seen_by_device: int
) -> None:
    device = function()
    register = device.config.register(name)
    start(device).function().write(register.offset, written, 2)
    assert device.config[name] & 0xFFFE == seen_by_device & 0xFFFE


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_register_can_be_read_in_parts(start: StartLane, size: int) -> None:
    device = function()
    seen = start(device).function()
    at = device.config.register("serial_number").offset
    parts = [seen.read(at + offset, size) for offset in range(0, 8, size)]  # type: ignore[arg-type]
    assert sum(part << 8 * size * n for n, part in enumerate(parts)) == 0x1122334455667788


@pytest.fixture(scope="module")
def with_fields(start_shared: StartLane) -> Lane:
    """A SIOV device for each row of the table."""
    devices = [
        SiovDevice(
            total_sdis=total, first_sdi_offset=offset, sdi_stride=stride, siov_status=status,
            siov_capabilities=0xA5A5A500 + number,
        )
        for number, (total, offset, stride, status) in enumerate(SIOV_FIELDS)
    ]  # fmt: skip
    return start_shared(*devices)


@pytest.mark.parametrize("number", range(len(SIOV_FIELDS)), ids=["-".join(map(hex, row)) for row in SIOV_FIELDS])
def test_the_siov_capability_is_seen_as_declared(with_fields: Lane, number: int) -> None:
    total, offset, stride, status = SIOV_FIELDS[number]
    seen = with_fields.function(number)
    at = with_fields.devices[number].config.find(SIOV)
    assert seen.read(at) & 0xFFFFF == 1 << 16 | SIOV
    assert seen.read(at + 4) == 0xA5A5A500 + number
    assert (seen.read(at + 8, 2), seen.read(at + 0xA, 1), seen.read(at + 0xB, 1)) == (total, 0, status)
    assert (seen.read(at + 0xC, 2), seen.read(at + 0xE, 2)) == (offset, stride)


@pytest.mark.parametrize(("place", "position"), [("first", 0), ("middle", 1), ("last", 3)])
def test_the_siov_capability_stands_where_it_is_wanted(start: StartLane, place: Place, position: int) -> None:
    config = start(SiovDevice(place=place)).function().config()
    assert [link.id for link in chain.extended(config)].index(SIOV) == position


def test_a_header_of_all_ones_ends_the_chain_and_nothing_else(start: StartLane) -> None:
    config = start(SiovDevice(all_ones_header=True)).function().config()
    ids = [link.id for link in chain.extended(config)]
    assert ids[-1] == 0xFFFF
    assert SIOV in ids


def test_a_function_without_the_capability_has_only_intels_older_one(start: StartLane) -> None:
    device = SiovDevice(siov=False, intel_dvsec=True)
    seen = start(device).function()
    links = {link.id: link.at for link in chain.extended(seen.config())}
    assert SIOV not in links
    assert (seen.read(links[0x23] + 4) & 0xFFFF, seen.read(links[0x23] + 8, 2)) == (0x8086, 5)


def test_functions_behind_several_ports_are_kept_apart(start: StartLane) -> None:
    lane = start(*(SiovDevice(total_sdis=10 + n, serial_number=n) for n in range(6)))
    at = lane.devices[0].config.find(SIOV)
    assert [lane.function(n).read(at + 8, 2) for n in range(6)] == [10, 11, 12, 13, 14, 15]


def test_qemu_takes_sriov_and_ari_from_the_chain_and_nothing_behind_them(start: StartLane) -> None:
    """So SR-IOV and SIOV on one function cannot be shown this way (hw/vfio/pci.c, vfio_add_ext_cap())."""
    sriov = Capability("SR-IOV", 0x10, 0x40, (Register("sriov_body", 4, 4, 0x12345678),), version=1)
    ari = capabilities.raw(0x0E, bytes(4), version=1)
    device = function(chain=[capabilities.express_endpoint(), sriov, ari, capabilities.serial_number(5)])
    ids = [link.id for link in chain.extended(start(device).function().config())]
    assert 0x10 not in ids
    assert 0x0E not in ids
    assert ids[-1] == 0x03
