# SPDX-License-Identifier: GPL-2.0-or-later
"""Walking capability chains, also of spaces that nobody would lay out."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from harness import chain
from harness.chain import BrokenChain, Link
from harness.device.capabilities import all_ones, ats, express_endpoint, pasid, vendor_specific
from harness.device.config_space import ConfigSpace, Identity


def space(words: Mapping[int, int], *, pointer: int = 0x40, status: int = 0x10) -> bytes:
    """Make a space of zeros but for some words of 32 bits, and where capabilities begin."""
    config = bytearray(4096)
    config[0x06], config[0x34] = status, pointer
    for at, word in words.items():
        struct.pack_into("<I", config, at, word)
    return bytes(config)


def test_both_chains_are_walked_in_their_order() -> None:
    config = ConfigSpace(Identity(1, 1), [express_endpoint(), ats(), vendor_specific(b""), pasid()]).peek(0, 4096)
    assert list(chain.capabilities(config)) == [Link(0x40, 0x10, 0), Link(0x7C, 0x09, 0)]
    assert list(chain.extended(config)) == [Link(0x100, 0x0F, 1), Link(0x108, 0x1B, 1)]


def test_where_the_status_tells_of_no_capabilities_the_pointer_is_not_followed() -> None:
    assert list(chain.capabilities(space({0x40: 9}, status=0))) == []


def test_the_lowest_two_bits_of_a_pointer_are_reserved() -> None:
    assert [one.at for one in chain.capabilities(space({0x40: 0x5309, 0x50: 9}, pointer=0x43))] == [0x40, 0x50]
    assert [one.at for one in chain.extended(space({0x100: 0x1071_0001, 0x104: 2}))] == [0x100, 0x104]


def test_an_extended_header_tells_id_version_and_the_next() -> None:
    found = list(chain.extended(space({0x100: 0xFFC2_0038, 0xFFC: 0x000F_FFFE})))
    assert found == [Link(0x100, 0x38, 2), Link(0xFFC, 0xFFFE, 15)]


def test_a_header_of_zeros_ends_the_extended_chain() -> None:
    assert list(chain.extended(space({}))) == []
    assert [one.at for one in chain.extended(space({0x100: 0x2001_0001}))] == [0x100]


def test_an_id_of_0_that_leads_on_does_not_end_the_chain() -> None:
    """QEMU leaves such a one at 0x100 where it takes the first capability out."""
    assert list(chain.extended(space({0x100: 0x1400_0000, 0x140: 0x0001_0038}))) == [
        Link(0x100, 0, 0),
        Link(0x140, 0x38, 1),
    ]


def test_a_header_of_all_ones_is_met_and_leads_to_the_last_word() -> None:
    config = ConfigSpace(Identity(1, 1), [ats(), all_ones()]).peek(0, 4096)
    assert list(chain.extended(config)) == [Link(0x100, 0x0F, 1), Link(0x108, 0xFFFF, 15)]
    chain.check(config)


def test_a_space_of_256_bytes_has_no_extended_capabilities() -> None:
    assert list(chain.extended(bytes(256))) == []


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (space({0x40: 0x4009}), "the chain of capabilities comes back to 0x40, from 0x40"),
        (space({0x40: 0x5009, 0x50: 0x4009}), "comes back to 0x40, from 0x50"),
        (space({0x40: 0x3C09}), "the capability at 0x40 leads to 0x3c, into the header"),
        (space({}, pointer=0x10), "at 0x34 leads to 0x10, into the header"),
        (space({0x100: 0x1000_0001}), "the chain of extended capabilities comes back to 0x100, from 0x100"),
        (space({0x100: 0x2001_0001, 0x200: 0x3001_0001, 0x300: 0x2001_0001}), "comes back to 0x200, from 0x300"),
        (space({0x100: 0x0FC1_0001}), "the extended capability at 0x100 leads to 0xfc, below 0x100"),
        (space({0x100: 0xFFC1_0001, 0xFFC: 0xFFFF_FFFF}), "comes back to 0xffc, from 0xffc"),
        (bytes(256), "configuration space of 256 bytes: it has 4096"),
    ],
)
def test_a_chain_without_an_end_or_into_another_part_is_refused(config: bytes, why: str) -> None:
    with pytest.raises(BrokenChain, match=why):
        chain.check(config)


def test_a_chain_is_given_as_far_as_it_is_sound() -> None:
    walk = chain.extended(space({0x100: 0x2001_0001, 0x200: 0x0401_0002}))
    assert [next(walk).id, next(walk).id] == [1, 2]
    with pytest.raises(BrokenChain):
        next(walk)
