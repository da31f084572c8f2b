# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a guest's memory, which may hold anything: every list ends, every text is short, every failure has words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from drgn import Object, Program
from drgn.helpers import ValidationError
from drgn.helpers.linux.list import list_for_each_entry

from harness.guest.introspect.failures import CannotIntrospect, KernelNonsense
from harness.text import decoded

LIST_LIMIT = 4096
"""Entries of one list: above all that a guest of ours has, and milliseconds to walk."""
_NAME_LIMIT = 256
"""Bytes of a name: those of devices and drivers have some tens (sysfs allows NAME_MAX, 255)."""
_KNODE_DEAD = 1
"""Of `n_klist`: the entry is being removed (lib/klist.c, knode_dead)."""
_NONSENSE = (ValidationError, ValueError, ArithmeticError, MemoryError, OSError)
"""What drgn raises, besides classes of its own, where memory is not as it ought to be, or QEMU has gone."""

Item = TypeVar("Item")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Tell in one way whatever goes wrong while `what` is read; raises `KernelNonsense` or `CannotIntrospect`."""
    try:
        yield
    except (LookupError, AttributeError) as error:  # a symbol or member that drgn does not find
        missing = error.args[0] if error.args else error  # a KeyError puts its words into quotes
        raise CannotIntrospect(f"this kernel does not tell of its {what} as others do: {missing}") from error
    except Exception as error:
        is_drgns = type(error) is Exception or type(error).__module__ == "_drgn"  # which have no base of their own
        if is_drgns or isinstance(error, _NONSENSE):
            raise KernelNonsense(f"the kernel's memory makes no sense where {what} should be: {error}") from error
        raise


def bounded(items: Iterable[Item], what: str, limit: int = LIST_LIMIT) -> Iterator[Item]:
    """Give the items, at most `limit`; raises `KernelNonsense` when there are more: the list may be a loop."""
    for count, item in enumerate(items):
        if count >= limit:
            raise KernelNonsense(f"the kernel's list of {what} does not end within {limit} entries")
        yield item


def entries(head: Object, kind: str, member: str, what: str) -> Iterator[Object]:
    """Give the `struct` entries of a `struct list_head`, as pointers; raises as `bounded`."""
    return bounded(list_for_each_entry(kind, head.address_of_(), member), what)


def on_klist(klist: Object, kind: str, node: str, what: str) -> Iterator[Object]:
    """Give the entries of a `struct klist` that are not being removed; raises as `bounded`."""
    for entry in entries(klist.k_list, kind, f"{node}.n_node", what):
        if not entry.member_(node).n_klist.value_() & _KNODE_DEAD:
            yield entry


def subsystem(program: Program) -> Object:
    """Give the `struct subsys_private` of the PCI bus, which has the lists of its devices and drivers."""
    bus = program["pci_bus_type"].address_of_()
    for found in entries(program["bus_kset"].list, "struct subsys_private", "subsys.kobj.entry", "buses"):
        if found.bus == bus:
            return found
    raise KernelNonsense("the kernel's list of buses has no PCI bus")


def text(pointer: Object) -> str:
    """Give the text at a `char *`, printable and short; empty for NULL."""
    if not pointer:
        return ""
    return decoded(pointer.prog_.read_c_string(pointer.value_(), max_size=_NAME_LIMIT))


def array_text(array: Object) -> str:
    """Give the text in a `char []` that was read already."""
    return decoded(bytes(character & 0xFF for character in array.value_()).split(b"\0")[0])


def symbol(program: Program, address: int) -> str:
    """Give the name of the kernel's symbol at an address; the bare address where it has none there."""
    try:
        found = program.symbol(address)
    except LookupError:
        return f"{address:#x}"
    return found.name if found.address == address else f"{found.name}+{address - found.address:#x}"
