# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a kernel's memory that holds anything but what it should."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
from drgn import Object, Program
from kernel_memory import BASE, SIZE, Memory

from harness.guest.introspect import log, memory, state
from harness.guest.introspect.failures import CannotIntrospect, KernelNonsense
from harness.guest.introspect.state import KernelState

HEAD, FIRST, SECOND, THIRD = 0x100, 0x200, 0x300, 0x400
KNODE_DEAD = 1


@pytest.fixture
def kernel() -> Memory:
    return Memory()


@pytest.fixture
def head(kernel: Memory) -> Object:
    """The head of a list of `struct item`, each a node and a number."""
    node = kernel.struct("list_head", next="list_head", prev="list_head")
    kernel.struct("item", node=node, number=kernel.u64)
    for number, place in enumerate((FIRST, SECOND, THIRD), 1):
        kernel.put(place + 16, number)
    return kernel.variable("head", node, HEAD)


def reading() -> AbstractContextManager[None]:
    return memory.reading("items")


def numbers(head: Object) -> list[int]:
    return [one.number.value_() for one in memory.entries(head, "struct item", "node", "items")]


def test_a_list_is_read_in_its_order(kernel: Memory, head: Object) -> None:
    kernel.ring(HEAD, SECOND, FIRST, THIRD)
    assert numbers(head) == [2, 1, 3]


def test_an_empty_list_is_empty(kernel: Memory, head: Object) -> None:
    kernel.ring(HEAD)
    assert numbers(head) == []


def test_a_list_that_never_comes_back_to_its_head_ends(kernel: Memory, head: Object) -> None:
    kernel.ring(HEAD, FIRST, SECOND, back_to=FIRST)
    with pytest.raises(KernelNonsense, match="list of items does not end within 4096 entries"):
        numbers(head)
    assert kernel.reads < 4 * memory.LIST_LIMIT


def test_an_entry_that_is_being_removed_is_left_out(kernel: Memory, head: Object) -> None:
    knode = kernel.struct("klist_node", n_klist=kernel.u64, n_node=head.type_)
    kernel.struct("member", number=kernel.u64, knode=knode)
    klist = kernel.struct("klist", k_lock=kernel.u64, k_list=head.type_)
    kernel.ring(HEAD + 8, FIRST + 16, SECOND + 16)
    kernel.put(FIRST, 1)
    kernel.put(SECOND, 2)
    kernel.put(FIRST + 8, BASE | KNODE_DEAD)
    kernel.put(SECOND + 8, BASE)
    found = memory.on_klist(kernel.variable("klist", klist, HEAD), "struct member", "knode", "members")
    assert [one.number.value_() for one in found] == [2]


def test_a_pointer_into_nowhere_is_told_in_one_line(kernel: Memory, head: Object) -> None:
    kernel.put(HEAD, 0xDEAD_0000_0000_0100)  # LIST_POISON1, include/linux/poison.h
    with pytest.raises(KernelNonsense, match=r"makes no sense where items should be: .*0xdead0000000001"), reading():
        numbers(head)


def test_a_member_that_this_kernel_lacks_is_no_fault_of_the_guest(kernel: Memory, head: Object) -> None:
    kernel.ring(HEAD, FIRST)
    lacking = "this kernel does not tell of its items as others do: 'struct item' has no member 'colour'"
    with pytest.raises(CannotIntrospect, match=lacking), reading():
        [one.colour for one in memory.entries(head, "struct item", "node", "items")]


def test_a_symbol_that_this_kernel_lacks_is_no_fault_of_the_guest(kernel: Memory) -> None:
    with pytest.raises(CannotIntrospect, match=r"PCI functions as others do: could not find .*pci_bus_type"):
        KernelState(kernel.program).functions()


def test_a_bug_of_ours_stays_one() -> None:
    with pytest.raises(RecursionError), reading():
        raise RecursionError


def test_a_name_is_printable_and_short(kernel: Memory) -> None:
    kernel.put(FIRST, b"a\x1b[2Jb\xff\n" + b"x" * 5000)
    kernel.put(HEAD, BASE + FIRST)
    found = memory.text(kernel.variable("name", kernel.pointer, HEAD))
    assert found.startswith("ab�\nxxx")
    assert len(found) < 300


def test_a_name_that_is_not_there_is_empty(kernel: Memory) -> None:
    assert memory.text(kernel.variable("name", kernel.pointer, HEAD)) == ""


def test_a_name_without_an_end_at_the_end_of_memory_is_told(kernel: Memory) -> None:
    kernel.put(SIZE - 4, b"abcd")
    kernel.put(HEAD, BASE + SIZE - 4)
    with pytest.raises(KernelNonsense, match="where a name should be"), memory.reading("a name"):
        memory.text(kernel.variable("name", kernel.pointer, HEAD))


def test_what_changed_while_it_was_read_is_read_again() -> None:
    failures = [KernelNonsense("torn"), KernelNonsense("torn")]

    def torn(_: Program) -> str:
        if failures:
            raise failures.pop()
        return "whole"

    assert KernelState(Program())._read("it", torn) == "whole"
    assert failures == []


def test_what_makes_no_sense_however_often_it_is_read_is_told() -> None:
    reads = []

    def nonsense(_: Program) -> None:
        reads.append(1)
        raise KernelNonsense("torn")

    with pytest.raises(KernelNonsense, match="torn"):
        KernelState(Program())._read("it", nonsense)
    assert len(reads) == state._ATTEMPTS


@pytest.mark.parametrize(
    ("bits", "text_bits", "tail", "head"),
    [(60, 10, 0, 1), (2, 70, 0, 1), (2, 10, 0, 4), (2, 10, 5, 4), (2, 10, 0, (1 << 62) - 1)],
    ids=["descriptors", "text", "span", "backwards", "nearly for ever"],
)
def test_a_log_that_would_take_for_ever_to_read_is_refused(
    kernel: Memory, bits: int, text_bits: int, tail: int, head: int
) -> None:
    make_log(kernel, bits, text_bits, tail, head)
    with pytest.raises(KernelNonsense, match="the kernel's log says that it has"):
        log.printk(kernel.program)


def make_log(kernel: Memory, bits: int, text_bits: int, tail: int, head: int) -> None:
    """Describe a ring buffer as far as its size is concerned, with the members' names of the kernel's."""
    counter = kernel.struct("atomic_long", counter=kernel.u64)
    descriptors = kernel.struct("prb_desc_ring", count_bits=kernel.u64, head_id=counter, tail_id=counter)
    text = kernel.struct("prb_data_ring", size_bits=kernel.u64)
    kernel.struct("printk_ringbuffer", desc_ring=descriptors, text_data_ring=text)
    kernel.put(FIRST, b"".join(number.to_bytes(8, "little") for number in (bits, head, tail, text_bits)))
    kernel.put(HEAD, BASE + FIRST)
    kernel.variable("prb", kernel.program.pointer_type(kernel.program.type("struct printk_ringbuffer")), HEAD)
