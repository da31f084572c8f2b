# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration space, byte by byte as the specification has it (PCI Express Base Specification, chapter 7)."""

from __future__ import annotations

from typing import Literal

import pytest

from harness.device.capabilities import (
    Capability,
    all_ones,
    ats,
    dvsec,
    express_endpoint,
    intel_siov_dvsec,
    msix,
    pasid,
    raw,
    serial_number,
    siov,
    vendor_specific,
    vsec,
)
from harness.device.config_space import Bar, ConfigSpace, Identity
from harness.device.registers import LayoutError, Register

IDENTITY = Identity(0x1AF4, 0x10F0, 0x088001, 0x7F, 0x1B36, 0x0038)


def space(*capabilities: Capability, bars: dict[int, Bar] | None = None) -> ConfigSpace:
    return ConfigSpace(IDENTITY, capabilities, bars)


def bytes_of(capability: Capability) -> bytes:
    bars = {0: Bar(0x1000)}
    return space(capability, bars=bars).peek(0x100 if capability.is_extended else 0x40, capability.size)


def sized(config: ConfigSpace, offset: int, width: int = 32) -> int:
    """Do as software that asks a BAR for its size."""
    config.write(offset, b"\xff" * (width // 8))
    return int.from_bytes(config.read(offset, width // 8), "little")


def test_the_header_of_a_function_is_that_of_type_0() -> None:
    assert space().peek(0, 0x40) == bytes.fromhex(
        "f41a f010 0000 0000 7f 018008 00 00 00 00"  # IDs, Command, Status, revision, class, ... header type, BIST
        "00000000 00000000 00000000 00000000 00000000 00000000"  # BARs
        "00000000 361b 3800 00000000 00 000000 00000000 00 00 00 00"  # CardBus, subsystem, ROM, pointer, interrupts
    )


def test_who_does_not_say_what_it_is_has_no_class() -> None:
    config = ConfigSpace(Identity(0x1AF4, 0x10F0))
    assert config.peek(0, 0x10) == bytes.fromhex("f41af010 00000000 000000ff 00000000")
    assert config.peek(0x2C, 4) == bytes(4)


def test_software_may_keep_numbers_in_two_bytes_of_the_header() -> None:
    config = space()
    config.write(0x0C, b"\xff" * 4)
    config.write(0x3C, b"\xff" * 4)
    assert (config.peek(0x0C, 4), config.peek(0x3C, 4)) == (b"\xff\0\0\0", b"\xff\0\0\0")


def test_configuration_space_has_4096_bytes_and_nothing_answers_behind_it() -> None:
    config = space()
    assert config.size == 4096
    assert config.peek(0x40, 4096) == bytes(4096 - 0x40)
    assert config.read(4094, 4) == b"\0\0\xff\xff"


def test_a_function_with_capabilities_says_so_in_its_status_and_points_to_the_first() -> None:
    config = space(vendor_specific(b"").placed(0x80), vendor_specific(b"").placed(0x50))
    assert config.read(0x06, 2) == b"\x10\x00"
    assert config.read(0x34, 1) == b"\x80"
    assert config.read(0x80, 2) == b"\x09\x50"
    assert config.read(0x50, 2) == b"\x09\x00"


def test_a_function_with_extended_capabilities_only_has_no_capability_pointer() -> None:
    config = space(ats())
    assert config.read(0x06, 2) == config.read(0x34, 2) == b"\0\0"
    assert config.read(0x100, 4) == b"\x0f\x00\x01\x00"


def test_software_writes_command_and_clears_errors_in_status() -> None:
    config = space(vendor_specific(b""))
    config["status"] |= 0xF900
    config.write(0x04, b"\xff\xff\x00\x80")
    assert config.read(0x04, 4) == b"\x47\x05\x10\x79"


def test_software_cannot_write_what_a_function_is() -> None:
    config = space(siov(total_sdis=4, first_sdi_offset=1, sdi_stride=1))
    before = config.peek(0, 4096)
    for place in (*range(0x04), *range(0x08, 0x0C), 0x0D, 0x0E, 0x0F, *range(0x2C, 0x3C), 0x3D, *range(0x40, 4096)):
        config.write(place, b"\xff")
    assert config.peek(0, 4096) == before


@pytest.mark.parametrize(
    ("bar", "low", "answer"),
    [
        (Bar(16), 0x0, 0xFFFFFFF0),
        (Bar(0x1000), 0x0, 0xFFFFF000),
        (Bar(1 << 31), 0x0, 0x80000000),
        (Bar(0x1000, prefetchable=True), 0x8, 0xFFFFF008),
        (Bar(4, kind="io"), 0x1, 0xFFFFFFFD),
        (Bar(256, kind="io"), 0x1, 0xFFFFFF01),
        (Bar(0x1000, width=64), 0x4, 0xFFFFFFFF_FFFFF004),
        (Bar(1 << 32, width=64), 0x4, 0xFFFFFFFF_00000004),
        (Bar(1 << 63, width=64, prefetchable=True), 0xC, 0x80000000_0000000C),
    ],
)
@pytest.mark.parametrize("index", [0, 3, 4])
def test_a_bar_tells_its_kind_and_its_size(index: int, bar: Bar, low: int, answer: int) -> None:
    config = space(bars={index: bar})
    assert config[f"bar_{index}"] == low
    assert sized(config, 0x10 + 4 * index, bar.width) == answer


def test_a_bar_of_64_bits_and_one_of_32_stand_side_by_side() -> None:
    config = space(bars={1: Bar(0x1000, width=64), 3: Bar(0x100), 5: Bar(32, kind="io")})
    config.write(0x10, b"\xff" * 24)
    assert config.peek(0x10, 24) == bytes.fromhex("00000000 04f0ffff ffffffff 00ffffff 00000000 e1ffffff")


@pytest.mark.parametrize(
    ("bars", "why"),
    [
        ({0: Bar(0)}, "BAR 0 of 0x0 bytes: its size is a power of two, 16 at least"),
        ({0: Bar(8)}, "BAR 0 of 0x8 bytes: its size is a power of two, 16 at least"),
        ({0: Bar(0x1001)}, "BAR 0 of 0x1001 bytes: its size is a power of two"),
        ({0: Bar(-16)}, "BAR 0 of -0x10 bytes"),
        ({5: Bar(2, kind="io")}, "BAR 5 of 0x2 bytes: its size is a power of two, 4 at least"),
        ({0: Bar(512, kind="io")}, "BAR 0: an I/O BAR has 32 bits and at most 256 bytes"),
        ({0: Bar(256, kind="io", width=64)}, "BAR 0: an I/O BAR has 32 bits"),
        ({0: Bar(1 << 32)}, "BAR 0 of 0x100000000 bytes needs width=64"),
        ({0: Bar(1 << 64, width=64)}, "BAR 0 of 0x10000000000000000 bytes is larger than any BAR"),
        ({6: Bar(16)}, "BAR 6 of 32 bits: BARs are 0 to 5"),
        ({-1: Bar(16)}, "BAR -1 of 32 bits"),
        ({5: Bar(16, width=64)}, "BAR 5 of 64 bits: BARs are 0 to 5, one of 64 bits takes two of them"),
        ({1: Bar(16, width=64), 2: Bar(16)}, "BAR 1 of 64 bits"),
        ({2: Bar(16), 1: Bar(16, width=64)}, "BAR 1 of 64 bits"),
    ],
)
def test_a_bar_that_no_function_has_is_refused(bars: dict[int, Bar], why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        space(bars=bars)


@pytest.mark.parametrize(("integrated", "kind"), [(False, "0200"), (True, "9200")])
def test_express_says_whether_the_endpoint_is_integrated(integrated: bool, kind: str) -> None:
    link = "00000000 0000 0000" if integrated else "11000000 0000 1100"
    assert bytes_of(express_endpoint(integrated=integrated)) == bytes.fromhex(
        f"1000 {kind} 00800010 1028 0000 {link}"
        "00000000 0000 0000 00000000 0000 0000"  # slot and root: not an endpoint's
        "1f000000 0000 0000 00000000 0000 0000 00000000 0000 0000"
    )


def test_a_function_without_flr_does_not_declare_it() -> None:
    assert bytes_of(express_endpoint(flr=False))[4:8] == bytes.fromhex("00800000")


def test_an_endpoint_is_one_of_its_own_with_flr_where_nothing_else_is_said() -> None:
    assert bytes_of(express_endpoint()) == bytes_of(express_endpoint(integrated=False, flr=True))


def test_software_writes_link_control_and_device_control_2() -> None:
    config = space(express_endpoint())
    config.write(0x40, b"\xff" * 0x3C)
    assert config.peek(0x50, 4) == b"\xcb\x0f\x11\x00", "link disable and retrain are not an endpoint's"
    assert config.peek(0x64, 8) == b"\x1f\0\0\0\x1f\0\0\0"


def test_what_is_left_out_of_a_capability_is_0_and_its_version_1() -> None:
    assert bytes_of(siov(total_sdis=0, first_sdi_offset=0, sdi_stride=0)) == bytes.fromhex("38000100") + bytes(12)
    assert bytes_of(vsec(1, size=8)) == bytes.fromhex("0b000100 01008000")
    assert bytes_of(intel_siov_dvsec())[12:] == bytes.fromhex("01000000 01000000 01000000")


def test_device_control_is_written_and_errors_in_device_status_are_cleared() -> None:
    config = space(express_endpoint())
    config["device_status"] = 0x2F
    config.write(0x48, b"\x0f\x00\x05\xff")
    assert config.read(0x48, 4) == b"\x0f\x00\x2a\x00"


MSIX_BYTES = "1100 0700 03100000 00200000"


def test_every_capability_has_the_bytes_of_its_specification() -> None:
    vectors = space(
        msix(8, table_bar=3, table_offset=0x1000, pba_bar=0, pba_offset=0x2000), bars={0: Bar(1 << 14), 3: Bar(1 << 14)}
    )
    assert vectors.peek(0x40, 12) == bytes.fromhex(MSIX_BYTES)
    assert bytes_of(vendor_specific(b"\xaa\xbb")) == bytes.fromhex("0900 05 aabb")
    assert bytes_of(serial_number(0x0123456789ABCDEF)) == bytes.fromhex("03000100 efcdab89 67452301")
    assert bytes_of(ats(0x1F)) == bytes.fromhex("0f000100 1f00 0000")
    assert bytes_of(pasid(20)) == bytes.fromhex("1b000100 0014 0000")
    assert bytes_of(vsec(0xABC, size=12, revision=5)) == bytes.fromhex("0b000100 bc0ac500 00000000")
    assert bytes_of(dvsec(0x8086, 0x23, size=12, revision=2)) == bytes.fromhex("23000100 8680c200 2300 0000")
    assert bytes_of(raw(0x2E, b"\x01\x02\x03\x04", version=3)) == bytes.fromhex("2e000300 01020304")
    assert bytes_of(raw(0x05, b"\x80\x00")) == bytes.fromhex("0500 8000")


def test_siov_has_the_bytes_of_its_public_layout() -> None:
    declared = siov(
        total_sdis=0x0203, first_sdi_offset=0x0405, sdi_stride=0x0607, status=0x81, capabilities=0xA1B2C3D4, version=2
    )
    assert bytes_of(declared) == bytes.fromhex("38000200 d4c3b2a1 0302 00 81 0504 0706")


def test_intels_older_capability_has_the_bytes_that_linux_looked_for() -> None:
    assert bytes_of(intel_siov_dvsec(0x80000001, 0x553)) == bytes.fromhex(
        "23000100 86808001 0500 0000 53050000 01000000 01000080"
    )


def test_software_writes_msix_control_only_and_there_two_bits_only() -> None:
    config = space(msix(8, table_bar=0, pba_bar=0, pba_offset=0x800), bars={0: Bar(0x1000)})
    config.write(0x40, b"\xff" * 12)
    assert config.peek(0x40, 12) == bytes.fromhex("1100 07c0 00000000 00080000")


def test_software_enables_ats_and_pasid() -> None:
    config = space(ats(), pasid())
    config.write(0x104, b"\xff\xff\xff\xff")
    config.write(0x10C, b"\xff\xff\xff\xff")
    assert config.read(0x104, 4) == b"\x00\x00\x1f\x80"
    assert config.read(0x10C, 4) == b"\x00\x14\x07\x00"


def test_a_header_of_all_ones_stands_at_the_end_of_the_chain_and_leads_to_zeros() -> None:
    config = space(ats(), all_ones())
    assert config.peek(0x100, 12) == bytes.fromhex("0f008110 00000000 ffffffff")
    assert config.peek(0xFFC, 4) == bytes(4)


def test_a_header_of_all_ones_can_be_the_only_one() -> None:
    assert space(all_ones()).peek(0x100, 8) == b"\xff\xff\xff\xff\0\0\0\0"


def test_extended_capabilities_are_chained_in_the_order_in_which_they_are_declared() -> None:
    config = space(ats(), pasid().placed(0x300), serial_number(0).placed(0x200))
    heads = {at: int.from_bytes(config.peek(at, 4), "little") >> 20 for at in (0x100, 0x300, 0x200)}
    assert heads == {0x100: 0x300, 0x300: 0x200, 0x200: 0}


@pytest.mark.parametrize(
    "name", ["vendor_id", "device_id", "subsystem_id", "subsystem_vendor_id", "class_code", "revision"]
)
@pytest.mark.parametrize("value", [-1, 1 << 24])
def test_an_identity_that_does_not_fit_its_register_is_refused(name: str, value: int) -> None:
    given = {"vendor_id": 1, "device_id": 1, name: value}
    with pytest.raises(LayoutError, match="does not fit"):
        ConfigSpace(Identity(**given))


@pytest.mark.parametrize("kind", ["memory", "io"])
def test_registers_that_do_not_fit_into_their_bar_are_no_matter_of_configuration_space(
    kind: Literal["memory", "io"],
) -> None:
    assert space(bars={0: Bar(16, (Register("r", 16, 4),), kind=kind)})["bar_0"] == (kind == "io")
