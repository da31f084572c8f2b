# SPDX-License-Identifier: GPL-2.0-or-later
"""Where capabilities come to lie, and what cannot be laid out."""

from __future__ import annotations

import pytest

from harness.device.capabilities import (
    Capability,
    ats,
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

IDENTITY = Identity(0x1AF4, 0x10F0)
SOUND_SIOV = siov(total_sdis=4, first_sdi_offset=1, sdi_stride=1)


def space(*capabilities: Capability, bars: dict[int, Bar] | None = None) -> ConfigSpace:
    return ConfigSpace(IDENTITY, capabilities, bars)


def places(*capabilities: Capability) -> list[int]:
    return [one.at for one in space(*capabilities).capabilities]


def test_capabilities_follow_each_other_and_extended_ones_begin_at_0x100() -> None:
    assert places(express_endpoint(), ats(), vendor_specific(b"abc"), pasid()) == [0x40, 0x7C, 0x100, 0x108]


def test_a_capability_begins_at_a_multiple_of_4() -> None:
    assert places(vendor_specific(b"ab"), vendor_specific(b""), raw(1, b"x", version=1), ats()) == [
        0x40, 0x48, 0x100, 0x108,
    ]  # fmt: skip


def test_a_capability_lies_where_it_is_told_and_the_next_one_behind_it() -> None:
    vendor = vendor_specific(b"")
    assert places(vendor.placed(0xA0), vendor, ats(), pasid().placed(0x200), SOUND_SIOV) == [
        0xA0, 0xA4, 0x100, 0x200, 0x208,
    ]  # fmt: skip


def test_capabilities_may_touch_in_any_order() -> None:
    assert places(ats(), pasid().placed(0x200), ats().placed(0x1F8), ats().placed(0x208)) == [
        0x100,
        0x200,
        0x1F8,
        0x208,
    ]


def test_msix_takes_12_bytes() -> None:
    config = space(msix(1, table_bar=0, pba_bar=0, pba_offset=0x800), vendor_specific(b""), bars={0: Bar(0x1000)})
    assert [one.at for one in config.capabilities] == [0x40, 0x4C]


def test_the_body_of_raw_bytes_is_a_register_named_after_it() -> None:
    assert (
        space(raw(0x2E, b"\1\2", version=1), raw(0x2F, b"\3", version=1, name="My-own one"))["raw_0x2e_body"] == 0x0201
    )
    assert space(raw(0x2F, b"\3", name="My-own one"))["my_own_one_body"] == 3


def test_the_last_bytes_of_both_parts_can_be_used() -> None:
    assert places(raw(9, b"12").placed(0xFC), ats(), raw(9, b"1234", version=1).placed(0xFF8)) == [0xFC, 0x100, 0xFF8]


@pytest.mark.parametrize(
    ("capabilities", "why"),
    [
        ([SOUND_SIOV, ats().placed(0x10C)], "ATS at 0x10c overlaps SIOV, which lies from 0x100 to 0x110"),
        ([SOUND_SIOV.placed(0x100), pasid().placed(0x200), ats().placed(0x200)], "ATS at 0x200 overlaps PASID"),
        ([ats(), pasid().placed(0x100)], "PASID at 0x100 overlaps ATS"),
        ([vendor_specific(b"").placed(0x44), vendor_specific(b"").placed(0x40), vendor_specific(b"")],
         "Vendor-specific at 0x44 overlaps Vendor-specific"),
        ([ats().placed(0x104)], "ATS: the first extended one lies at 0x100"),
        ([ats().placed(0xFC)], "ATS of 0x8 bytes at 0xfc: it lies between 0x100 and 0x1000"),
        ([ats(), ats().placed(0x10A)], "ATS of 0x8 bytes at 0x10a: .* at a multiple of 4"),
        ([ats(), ats().placed(0xFFC)], "ATS of 0x8 bytes at 0xffc"),
        ([ats(), ats().placed(0x1000)], "ATS of 0x8 bytes at 0x1000"),
        ([ats(), ats().placed(-4)], "ATS of 0x8 bytes at -0x4"),
        ([vsec(1, size=0xF04)], "VSEC 1 of 0xf04 bytes at 0x100"),
        ([express_endpoint().placed(0x3C)], "PCI Express of 0x3c bytes at 0x3c: it lies between 0x40 and 0x100"),
        ([express_endpoint().placed(0xC8)], "PCI Express of 0x3c bytes at 0xc8"),
        ([*[express_endpoint()] * 3, vendor_specific(bytes(10))], "Vendor-specific of 0xd bytes at 0xf4"),
    ],
)  # fmt: skip
def test_a_capability_without_a_place_of_its_own_is_refused(capabilities: list[Capability], why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        space(*capabilities)


@pytest.mark.parametrize(
    ("capabilities", "why"),
    [
        ([ats().pointing_to(0x100)], "the chain of extended capabilities comes back to 0x100, from 0x100"),
        ([ats(), pasid(), SOUND_SIOV.pointing_to(0x108)], "comes back to 0x108, from 0x110"),
        ([ats().pointing_to(0xFC)], "the extended capability at 0x100 leads to 0xfc, below 0x100"),
        ([ats().pointing_to(0x40)], "leads to 0x40, below 0x100"),
        ([ats().pointing_to(0x1000)], "ats_header: .* does not fit"),
        ([ats().pointing_to(-4)], "ats_header: .* does not fit"),
        ([vendor_specific(b"").pointing_to(0x40)], "the chain of capabilities comes back to 0x40, from 0x40"),
        ([vendor_specific(b""), vendor_specific(b"").pointing_to(0x40)], "comes back to 0x40, from 0x44"),
        ([vendor_specific(b"").pointing_to(0x3C)], "the capability at 0x40 leads to 0x3c, into the header"),
        ([vendor_specific(b"").pointing_to(0x100)], "vendor_specific_header: .* does not fit"),
    ],
)
def test_a_chain_on_which_qemu_would_spin_or_abort_is_refused(capabilities: list[Capability], why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        space(*capabilities)


def test_a_chain_may_leave_a_capability_out() -> None:
    config = space(ats().pointing_to(0x110), pasid(), SOUND_SIOV)
    assert [one.at for one in config.capabilities] == [0x100, 0x108, 0x110]
    assert config.peek(0x100, 4) == b"\x0f\x00\x01\x11"


@pytest.mark.parametrize(
    ("capability", "why"),
    [
        (Capability("X", 1, 8, (Register("r", 4, 8),), version=1), "register r lies from 0x4 to 0xc, outside"),
        (Capability("X", 1, 8, (Register("r", 0, 4),), version=1), "register r lies from 0x0 to 0x4, outside"),
        (Capability("X", 1, 8, (Register("r", 3, 1),), version=1), "outside of its body, 0x4 to 0x8"),
        (Capability("X", 1, 8, (Register("r", 8, 1),), version=1), "outside of its body"),
        (Capability("X", 1, 8, (Register("r", 1, 1),)), "outside of its body, 0x2 to 0x8"),
        (Capability("X", 1, 8, (Register("r", 2, 2, count=4),)), "register r lies from 0x2 to 0xa"),
        (Capability("X", 1, 8, (Register("r", 2, 2), Register("r", 4, 2))), "two registers are called r"),
        (Capability("X", 1, 8, (Register("r", 2, 2), Register("s", 3, 2))), "overlaps r"),
        (Capability("X", 1, 1), "capability X of 0x1 bytes: its header has 2"),
        (Capability("X", 1, 2, version=1), "capability X of 0x2 bytes: its header has 4"),
        (Capability("X", 1, -8, version=1), "capability X of -0x8 bytes"),
        (Capability("X", 0x100, 8), "capability X: ID 0x100"),
        (Capability("X", -1, 8), "capability X: ID -0x1"),
        (Capability("X", 0x10000, 8, version=1), "capability X: ID 0x10000"),
        (Capability("X", 1, 8, version=16), "capability X: ID 0x1, version 16"),
        (Capability("X", 1, 8, version=-1), "capability X: ID 0x1, version -1"),
        (raw(0x138, b""), "capability raw 0x138: ID 0x138"),
        (siov(total_sdis=0x10000, first_sdi_offset=1, sdi_stride=1), "siov_total_sdis: value=0x10000 does not fit"),
        (siov(total_sdis=1, first_sdi_offset=-1, sdi_stride=1), "siov_first_sdi_offset: value=-0x1 does not fit"),
        (siov(total_sdis=1, first_sdi_offset=1, sdi_stride=1, status=0x100), "siov_status: value=0x100"),
        (vendor_specific(bytes(253)), "Vendor-specific of 0x100 bytes"),
        (vsec(1, [Register("r", 4, 4)], size=16), "overlaps vsec_header"),
        (vsec(1, [Register("r", 8, 16)], size=16), "register r lies from 0x8 to 0x18"),
    ],
)  # fmt: skip
def test_a_capability_that_cannot_be_is_refused_in_one_line(capability: Capability, why: str) -> None:
    with pytest.raises(LayoutError, match=why) as refused:
        space(capability, ats() if capability.is_extended else vendor_specific(b""))
    assert "\n" not in str(refused.value)


def test_registers_of_a_second_capability_of_a_kind_get_a_number() -> None:
    first = siov(total_sdis=1, first_sdi_offset=2, sdi_stride=3)
    config = space(first, ats(), siov(total_sdis=4, first_sdi_offset=5, sdi_stride=6), SOUND_SIOV)
    assert (config["siov_total_sdis"], config["siov_total_sdis_2"], config["siov_total_sdis_3"]) == (1, 4, 4)
    assert config["siov_sdi_stride_2"] == 6
    assert config.register("siov_header_2").offset == 0x118


def test_a_number_is_one_that_no_register_has_yet() -> None:
    crowd = tuple(Register(name, at, 1) for at, name in enumerate(("r", "r_2", "r_3", "r_4"), 4))
    config = space(
        Capability("Crowd", 1, 16, crowd, version=1), Capability("Late", 2, 8, (Register("r", 4, 1, 0x77),), version=1)
    )
    assert config["r_5"] == 0x77


def test_a_capability_takes_no_name_from_the_header() -> None:
    config = space(Capability("X", 1, 8, (Register("command", 4, 4, 0xABCD), Register("y", 2, 1))))
    assert config["command"] == 0
    assert config["command_2"] == 0xABCD
    assert config.register("y_2").offset == 0x42


BARS = {0: Bar(0x1000), 1: Bar(0x100, kind="io"), 2: Bar(0x1000, width=64), 5: Bar(0x20)}


@pytest.mark.parametrize(
    ("table", "pba", "why"),
    [
        ((0, 0xFF8), (2, 0), "msix_table of 0x10 bytes at 0xff8 lies in no memory BAR 0"),
        ((2, 0), (0, 0x1000), "msix_pba of 0x8 bytes at 0x1000 lies in no memory BAR 0"),
        ((4, 0), (2, 0), "msix_table of 0x10 bytes at 0x0 lies in no memory BAR 4"),
        ((0, 0), (3, 0), "lies in no memory BAR 3"),
        ((1, 0), (2, 0), "lies in no memory BAR 1"),
        ((0, 8), (0, 0x10), "MSI-X table and pending bits overlap in BAR 0"),
        ((0, 8), (0, 8), "MSI-X table and pending bits overlap in BAR 0"),
    ],
)
def test_msix_outside_of_bars_or_over_itself_is_refused(table: tuple[int, int], pba: tuple[int, int], why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        space(msix(1, table_bar=table[0], table_offset=table[1], pba_bar=pba[0], pba_offset=pba[1]), bars=BARS)


@pytest.mark.parametrize(
    ("vectors", "table", "pba"),
    [(1, (0, 0xFF0), (0, 0xFE8)), (1, (0, 0), (0, 16)), (65, (0, 0xBF0), (5, 0x10)), (2048, (3, 0), (3, 0x8000))],
)
def test_msix_fits_into_a_bar_to_the_last_byte(vectors: int, table: tuple[int, int], pba: tuple[int, int]) -> None:
    bars = {0: Bar(0x1000), 3: Bar(0x10000), 5: Bar(0x20)}
    config = space(
        msix(vectors, table_bar=table[0], table_offset=table[1], pba_bar=pba[0], pba_offset=pba[1]), bars=bars
    )
    assert config.has_msix


def test_one_vector_more_does_not_fit() -> None:
    with pytest.raises(LayoutError, match="msix_table of 0x420 bytes at 0xbf0 lies in no memory BAR 0"):
        space(msix(66, table_bar=0, table_offset=0xBF0, pba_bar=5, pba_offset=0), bars={0: Bar(0x1000), 5: Bar(0x20)})
    with pytest.raises(LayoutError, match="msix_pba of 0x18 bytes at 0x10 lies in no memory BAR 5"):
        space(msix(129, table_bar=0, pba_bar=5, pba_offset=0x10), bars={0: Bar(0x1000), 5: Bar(0x20)})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"vectors": 0}, "MSI-X with 0 vectors: a function has 1 to 2048"),
        ({"vectors": 2049}, "MSI-X with 2049 vectors"),
        ({"table_bar": 6}, "MSI-X table at 0x0 in BAR 6"),
        ({"pba_bar": -1}, "MSI-X pending bits at 0x800 in BAR -1"),
        ({"table_offset": 4}, "MSI-X table at 0x4 in BAR 0: .* aligned to 8 bytes"),
        ({"pba_offset": 0x801}, "MSI-X pending bits at 0x801"),
    ],
)
def test_msix_that_no_function_has_is_refused(arguments: dict[str, int], why: str) -> None:
    sound = {"vectors": 1, "table_bar": 0, "table_offset": 0, "pba_bar": 0, "pba_offset": 0x800}
    with pytest.raises(LayoutError, match=why):
        msix(**{**sound, **arguments})


def test_msix_as_raw_bytes_is_a_capability_of_which_the_device_knows_nothing() -> None:
    config = space(raw(0x11, b"\x07\x00" + bytes(8)))
    assert not config.has_msix
    assert config.has(0x11, extended=False)


def test_capabilities_are_found_by_their_id() -> None:
    config = space(express_endpoint(), serial_number(1), SOUND_SIOV, SOUND_SIOV)
    assert config.has(0x38)
    assert config.find(0x38) == 0x10C
    assert config.find(0x10, extended=False) == 0x40
    assert not config.has(0x10)
    assert not config.has(0x38, extended=False)
    with pytest.raises(LookupError, match="no extended capability 0x10 is declared"):
        config.find(0x10)


def test_two_capabilities_may_be_the_same_object() -> None:
    one = intel_siov_dvsec()
    assert places(one, one, one) == [0x100, 0x118, 0x130]
    assert space(one, one).peek(0x100, 4) == b"\x23\x00\x81\x11"
