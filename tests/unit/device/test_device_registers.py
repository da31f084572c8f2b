# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers: what each bit does when software writes it, when a reset comes, and when a hook is called."""

from __future__ import annotations

import pytest

from harness.device.registers import Bank, LayoutError, Register
from harness.errors import UsageError


def bank(*registers: Register, size: int = 16) -> Bank:
    return Bank(size, registers, "BAR 0")


def test_software_writes_the_bits_that_are_rw_and_no_others() -> None:
    it = bank(Register("r", 0, 4, 0x12345678, rw=0x00FFF000))
    it.write(0, b"\xff\xff\xff\xff")
    assert it["r"] == 0x12FFF678
    it.write(0, bytes(4))
    assert it["r"] == 0x12000678


def test_writing_1_clears_a_w1c_bit_and_writing_0_leaves_it() -> None:
    it = bank(Register("r", 0, 1, 0b1111, w1c=0b0110))
    it.write(0, b"\x00")
    assert it["r"] == 0b1111
    it.write(0, b"\x0a")
    assert it["r"] == 0b1101


def test_writing_1_does_not_set_a_w1c_bit() -> None:
    it = bank(Register("r", 0, 1, 0, w1c=0xFF))
    it.write(0, b"\xff")
    assert it["r"] == 0


def test_one_write_sets_rw_bits_and_clears_w1c_bits_of_the_same_register() -> None:
    it = bank(Register("r", 0, 2, 0xFF00, rw=0x00FF, w1c=0xFF00))
    it.write(0, b"\x5a\x0f")
    assert it["r"] == 0xF05A


def test_a_write_of_part_of_a_register_leaves_the_rest() -> None:
    it = bank(Register("r", 0, 4, 0x11223344, rw=0xFFFFFFFF))
    it.write(1, b"\xaa\xbb")
    assert it["r"] == 0x11BBAA44


def test_a_write_of_part_of_a_register_clears_no_w1c_bit_of_the_rest() -> None:
    it = bank(Register("status", 2, 2, 0xF900, w1c=0xF900))
    it.write(2, b"\xff")
    assert it["status"] == 0xF900
    it.write(3, b"\x80")
    assert it["status"] == 0x7900


def test_a_write_over_several_registers_goes_by_the_bits_of_each() -> None:
    it = bank(Register("ro", 0, 2, 0x1111), Register("rw", 2, 2, rw=0xFFFF), Register("w1c", 4, 2, 0xFFFF, w1c=0xFFFF))
    it.write(0, b"\xef\xbe" * 3)
    assert (it["ro"], it["rw"], it["w1c"]) == (0x1111, 0xBEEF, 0x4110)


def test_where_no_register_is_it_reads_as_zeros_and_takes_no_write() -> None:
    it = bank(Register("r", 4, 4, 0xFFFFFFFF))
    it.write(0, b"\xff" * 16)
    assert it.read(0, 16) == bytes(4) + b"\xff" * 4 + bytes(8)


def test_bytes_outside_read_as_all_ones_and_take_no_write() -> None:
    it = bank(Register("r", 12, 4, 0, rw=0xFFFFFFFF))
    it.write(14, b"\x01\x02\x03\x04")
    it.write(20, b"\x05")
    assert it.read(12, 8) == b"\0\0\x01\x02" + b"\xff" * 4
    assert it.read(16, 2) == it.read(100, 2) == b"\xff\xff"
    assert it.peek(0, 100) == it.read(0, 16)


def test_a_reset_gives_every_register_its_first_value_but_for_sticky_bits() -> None:
    it = bank(Register("plain", 0, 2, 0x1234, rw=0xFFFF), Register("half", 2, 2, 0x5678, rw=0xFFFF, sticky=0xFF00))
    it.write(0, b"\xff\xff\xaa\xbb")
    it.reset()
    assert (it["plain"], it["half"]) == (0x1234, 0xBB78)


def test_a_sticky_error_bit_outlives_a_reset_and_can_be_cleared_after_it() -> None:
    it = bank(Register("errors", 0, 4, w1c=0xF, sticky=0xF))
    it["errors"] = 0b101
    it.reset()
    assert it["errors"] == 0b101
    it.write(0, b"\x04")
    assert it["errors"] == 0b001


def test_registers_in_a_row_each_have_the_value_and_the_bits() -> None:
    it = bank(Register("row", 4, 2, 0x0101, rw=0x00F0, count=3))
    it.write(0, b"\xff" * 16)
    assert [it.get("row", index) for index in range(3)] == [0x01F1] * 3
    it.set("row", 0xABCD, 2)
    assert it.read(4, 8) == b"\xf1\x01\xf1\x01\xcd\xab\0\0"


@pytest.mark.parametrize("index", [-1, 3])
def test_a_row_has_no_other_indices(index: int) -> None:
    it = bank(Register("row", 4, 2, count=3))
    with pytest.raises(IndexError, match=f"BAR 0: register row has no index {index}, but 0 to 2"):
        it.get("row", index)


def test_the_device_itself_sets_any_bit_of_a_register_and_of_nothing_else() -> None:
    it = bank(Register("a", 0, 2), Register("b", 2, 2))
    it["a"] = 0xFFFF
    assert it.read(0, 4) == b"\xff\xff\0\0"
    with pytest.raises(ValueError, match="BAR 0: register a of 2 bytes cannot hold 65536"):
        it["a"] = 0x10000


def test_a_register_of_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(KeyError, match="BAR 0 has no register c, but a, b"):
        _ = bank(Register("a", 0, 2), Register("b", 2, 2))["c"]
    with pytest.raises(KeyError, match="BAR 0 has no register c, but none"):
        bank().on_read("c", lambda _: None)


def test_bits_tells_which_bytes_software_writes_and_which_it_clears() -> None:
    it = bank(Register("a", 0, 2, rw=0x0F0F, count=2), Register("b", 4, 1, w1c=0x81))
    assert it.bits(1, 4) == (b"\x0f\x0f\x0f\x00", b"\x00\x00\x00\x81")


def test_registers_are_told_by_their_place() -> None:
    assert [one.name for one in bank(Register("b", 4, 2), Register("a", 0, 2)).registers] == ["a", "b"]


def test_poke_and_peek_pass_by_masks_and_hooks() -> None:
    it = bank(Register("r", 0, 2))
    it.on_read("r", lambda _: 0x7777)
    it.poke(1, b"\x99")
    assert it.peek(0, 16) == b"\0\x99" + bytes(14)
    assert it["r"] == 0x9900


def test_a_read_hook_gives_the_value_that_is_read_from_then_on() -> None:
    it = bank(Register("r", 4, 4))
    it.on_read("r", lambda _: 0xCAFE)
    assert it.read(0, 4) == bytes(4)
    assert it["r"] == 0, "a read beside it called the hook"
    assert it.read(5, 1) == b"\xca"
    assert it["r"] == 0xCAFE


def test_a_read_hook_that_gives_none_leaves_the_value() -> None:
    it = bank(Register("r", 0, 2, 0x1234))
    it.on_read("r", lambda _: None)
    assert it.read(0, 2) == b"\x34\x12"


def test_a_read_hook_is_told_the_index_of_each_register_that_is_touched() -> None:
    it = bank(Register("row", 4, 2, count=4))
    told: list[int] = []
    it.on_read("row", told.append)
    it.read(7, 2)
    assert told == [1, 2]
    it.read(0, 16)
    assert told == [1, 2, 0, 1, 2, 3]


def test_a_write_hook_is_told_what_the_register_holds_then() -> None:
    it = bank(Register("r", 0, 4, 0xF0000000, rw=0x0000FFFF))
    told: list[tuple[int, int]] = []
    it.on_write("r", lambda *what: told.append(what))
    it.write(0, b"\xff\xff\xff\x00")
    it.write(1, b"\x00")
    it.write(1, b"\x00")
    it.write(4, b"\xff")
    assert told == [(0, 0xF000FFFF), (0, 0xF00000FF), (0, 0xF00000FF)]


def test_a_write_hook_is_told_the_index_of_each_register_that_is_touched() -> None:
    it = bank(Register("row", 4, 2, rw=0xFFFF, count=4))
    told: list[tuple[int, int]] = []
    it.on_write("row", lambda *what: told.append(what))
    it.write(3, b"\1\2\3\4")
    assert told == [(0, 0x0302), (1, 0x0004)]


def test_all_hooks_of_a_register_are_called_in_their_order() -> None:
    it = bank(Register("r", 0, 2, rw=0xFFFF))
    it.on_write("r", lambda _, value: it.set("r", value + 1))
    it.on_write("r", lambda _, value: it.set("r", value * 2))
    it.write(0, b"\x01\x00")
    assert it["r"] == 4


def test_a_read_or_write_of_no_bytes_calls_no_hook() -> None:
    it = bank(Register("r", 0, 4, rw=0xFFFFFFFF))
    told: list[int] = []
    it.on_read("r", told.append)
    it.on_write("r", lambda index, _: told.append(index))
    assert it.read(2, 0) == b""
    it.write(2, b"")
    assert told == []


def test_a_reset_calls_no_hook() -> None:
    it = bank(Register("r", 0, 2, rw=0xFFFF))
    told: list[int] = []
    it.on_write("r", lambda index, _: told.append(index))
    it.reset()
    assert told == []


@pytest.mark.parametrize(
    ("register", "why"),
    [
        (Register("r", 14, 4), "register r at 0xe ends at 0x12, behind the end at 0x10"),
        (Register("r", 0, 4, count=5), "register r at 0x0 ends at 0x14"),
        (Register("r", -1, 4), "size, count and offset"),
        (Register("r", 0, 0), "size, count and offset"),
        (Register("r", 0, 4, count=0), "size, count and offset"),
        (Register("r", 0, 1, 0x100), "value=0x100 does not fit into 1 bytes"),
        (Register("r", 0, 1, -1), "value=-0x1 does not fit"),
        (Register("r", 0, 2, rw=0x10000), "rw=0x10000 does not fit into 2 bytes"),
        (Register("r", 0, 2, w1c=0x10000), "w1c=0x10000 does not fit"),
        (Register("r", 0, 2, sticky=0x10000), "sticky=0x10000 does not fit"),
        (Register("r", 0, 2, rw=0x00F0, w1c=0x0FF0), "bits 0xf0 are both rw and w1c"),
        (Register("there", 0, 2), "two registers are called there"),
        (Register("r", 8, 4), "register r at 0x8 overlaps there at 0xa"),
        (Register("r", 11, 1), "register r at 0xb overlaps there at 0xa"),
        (Register("r", 0, 1, count=16), "overlaps there"),
    ],
)
def test_a_register_that_cannot_be_is_refused(register: Register, why: str) -> None:
    it = bank(Register("there", 10, 2))
    with pytest.raises(LayoutError, match=why) as refused:
        it.declare(register)
    assert isinstance(refused.value, UsageError)
    assert "\n" not in str(refused.value)
    assert [one.name for one in it.registers] == ["there"], "a part of what was refused was kept"


def test_registers_may_touch() -> None:
    assert len(bank(Register("b", 4, 4), Register("a", 0, 4), Register("c", 8, 8)).registers) == 3


def test_below_its_first_byte_a_bank_reads_as_all_ones_and_takes_no_write() -> None:
    it = bank(Register("r", 0, 4, rw=0xFFFFFFFF))
    it.write(-2, b"\1\2\3\4")
    assert it.read(-2, 4) == b"\xff" * 4
    assert it["r"] == 0


def test_a_bank_says_what_it_is() -> None:
    assert repr(bank()) == "<BAR 0: 0x10 bytes>"
