# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for any configuration space that can be laid out: its chains, and every bit that software writes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from harness import chain
from harness.chain import BrokenChain
from harness.device.capabilities import Capability
from harness.device.config_space import Bar, ConfigSpace, Identity
from harness.device.registers import Bank, LayoutError, Register

IDENTITIES = st.builds(
    Identity, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFF), st.integers(0, 0xFF)
)
BARS = st.dictionaries(
    st.integers(0, 5),
    st.one_of(
        st.builds(Bar, st.integers(4, 31).map(lambda bits: 1 << bits), prefetchable=st.booleans()),
        st.builds(Bar, st.integers(4, 63).map(lambda bits: 1 << bits), width=st.just(64), prefetchable=st.booleans()),
        st.builds(Bar, st.integers(2, 8).map(lambda bits: 1 << bits), kind=st.just("io")),
    ),
    max_size=3,
)


@st.composite
def registers(draw: st.DrawFn, start: int, end: int) -> tuple[Register, ...]:
    """Draw registers between two offsets, none over another."""
    found = []
    at = start + draw(st.integers(0, 3))
    while at < end and draw(st.booleans()):
        size = draw(st.integers(1, min(4, end - at)))
        count = draw(st.integers(1, min(3, (end - at) // size)))
        bits = st.integers(0, (1 << 8 * size) - 1)
        writable = draw(bits)
        found.append(
            Register(
                f"r_{at}", at, size, draw(bits), writable, draw(bits) & ~writable, draw(bits), count
            )
        )  # fmt: skip
        at += size * count + draw(st.integers(0, 4))
    return tuple(found)


@st.composite
def capabilities(draw: st.DrawFn) -> Capability:
    """Draw a capability of either kind, mostly without a place of its own."""
    version = draw(st.one_of(st.none(), st.integers(0, 15)))
    header = 2 if version is None else 4
    size = header + draw(st.integers(0, 24))
    # A header of zeros is the end of a chain and no capability: ID 0 has at least a version.
    least = 0 if version else 1
    id_ = draw(st.integers(least, 0xFF if version is None else 0xFFFF))
    one = Capability(f"Capability {id_:x}", id_, size, draw(registers(header, size)), version)
    places = st.integers(0, 0x1000 // 4).map(lambda word: word * 4)
    return draw(st.one_of(st.just(one), st.just(one), st.just(one), places.map(one.placed)))


@st.composite
def spaces(draw: st.DrawFn) -> tuple[list[Capability], ConfigSpace]:
    """Draw a configuration space that can be laid out, and the capabilities that were declared."""
    declared = draw(st.lists(capabilities(), min_size=1, max_size=6))
    # The first extended one lies at 0x100, wherever it was drawn: else most of them would be refused for that.
    first = next((number for number, one in enumerate(declared) if one.is_extended), None)
    if first is not None:
        declared[first] = replace(declared[first], at=None)
    try:
        made = ConfigSpace(draw(IDENTITIES), declared, draw(BARS))
    except LayoutError:
        event("refused")
        assume(False)  # noqa: FBT003
    event(f"{len(declared)} capabilities")
    return declared, made


def expected(config: Bank, bits: list[tuple[int, int]], before: bytes, offset: int, data: bytes) -> bytes:
    """Say bit by bit what a write leaves; `bits` are the rw and w1c bits of each byte."""
    after = bytearray(before)
    for place, byte in enumerate(data, offset):
        if place >= config.size:
            break
        for bit in (1 << number for number in range(8)):
            rw, w1c = bits[place]
            if rw & bit:
                after[place] = after[place] & ~bit | byte & bit
            elif w1c & bit and byte & bit:
                after[place] &= ~bit
    return bytes(after)


def declared_bits(config: ConfigSpace) -> list[tuple[int, int]]:
    """Give the rw and w1c bits of each byte, from the declarations."""
    bits = [(0, 0)] * config.size
    for one in config.registers:
        for place in range(one.offset, one.end):
            shift = (place - one.offset) % one.size * 8
            bits[place] = one.rw >> shift & 0xFF, one.w1c >> shift & 0xFF
    return bits


@settings(max_examples=80)
@given(spaces())
def test_walking_the_bytes_gives_exactly_the_capabilities_that_were_declared(
    drawn: tuple[list[Capability], ConfigSpace],
) -> None:
    declared, config = drawn
    walked = [*chain.capabilities(config.peek(0, 4096)), *chain.extended(config.peek(0, 4096))]
    wanted = [one for one in declared if not one.is_extended] + [one for one in declared if one.is_extended]
    assert [(one.id, one.version) for one in walked] == [(one.id, one.version or 0) for one in wanted]
    assert [one.at for one in walked] == [one.at for one in sorted_by_kind(config)]
    for one, found in zip(wanted, walked, strict=True):
        assert one.at in (None, found.at)
        assert found.at % 4 == 0


def sorted_by_kind(config: ConfigSpace) -> list[chain.Link]:
    return [
        chain.Link(one.at, one.capability.id, one.capability.version or 0)
        for extended in (False, True)
        for one in config.capabilities
        if one.capability.is_extended == extended
    ]


@settings(max_examples=40)
@given(spaces())
def test_every_register_holds_its_value_at_its_place(drawn: tuple[list[Capability], ConfigSpace]) -> None:
    _, config = drawn
    raw = config.peek(0, 4096)
    covered = bytearray(4096)
    for one in config.registers:
        for index in range(one.count):
            place = slice(one.offset + index * one.size, one.offset + (index + 1) * one.size)
            assert int.from_bytes(raw[place], "little") == one.value == config.get(one.name, index)
            assert not any(covered[place])
            covered[place] = b"\1" * one.size
    assert all(byte == 0 for byte, is_covered in zip(raw, covered, strict=True) if not is_covered)


@settings(max_examples=60)
@given(spaces(), st.data())
def test_every_bit_is_written_as_its_register_declares(
    drawn: tuple[list[Capability], ConfigSpace], data: st.DataObject
) -> None:
    _, config = drawn
    bits = declared_bits(config)
    assert [tuple(pair) for pair in zip(*config.bits(0, 4096), strict=True)] == bits
    for one in config.registers:
        start = config.peek(one.offset, one.end - one.offset)
        for value in (bytes(len(start)), b"\xff" * len(start), *single_bits(len(start))):
            before = config.peek(0, 4096)
            config.write(one.offset, value)
            assert config.peek(0, 4096) == expected(config, bits, before, one.offset, value)
            config.poke(one.offset, start)
    for offset, written in data.draw(st.lists(st.tuples(st.integers(0, 0x140), st.binary(max_size=64)), max_size=8)):
        before = config.peek(0, 4096)
        config.write(offset, written)
        assert config.peek(0, 4096) == expected(config, bits, before, offset, written)


def single_bits(size: int) -> list[bytes]:
    return [(1 << bit).to_bytes(size, "little") for bit in range(0, 8 * size, 3)]


@settings(max_examples=40)
@given(spaces(), st.integers(0, 1 << 32))
def test_a_reset_gives_all_back_but_sticky_bits(drawn: tuple[list[Capability], ConfigSpace], seed: int) -> None:
    _, config = drawn
    first = config.peek(0, 4096)
    held = Random(seed).randbytes(4096)  # noqa: S311
    config.poke(0, held)
    config.reset()
    sticky = bytearray(4096)
    for one in config.registers:
        sticky[one.offset : one.end] = one.sticky.to_bytes(one.size, "little") * one.count
    wanted = bytes(was & ~keep | now & keep for was, now, keep in zip(first, held, sticky, strict=True))
    assert config.peek(0, 4096) == wanted


@settings(max_examples=200)
@given(st.integers(0, 1 << 32), st.integers(0, 255))
def test_walking_any_bytes_ends_with_a_chain_or_with_its_refusal(seed: int, pointer: int) -> None:
    config = bytearray(Random(seed).randbytes(4096))  # noqa: S311
    config[0x06], config[0x34] = 0x10, pointer
    try:
        chain.check(bytes(config))
    except BrokenChain:
        return
    places = [one.at for one in (*chain.capabilities(bytes(config)), *chain.extended(bytes(config)))]
    assert len(places) == len(set(places))
    assert all(0x40 <= at < 0x1000 for at in places)
