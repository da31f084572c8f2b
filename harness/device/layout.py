# SPDX-License-Identifier: GPL-2.0-or-later
"""Where capabilities lie in configuration space, and the headers that chain them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from harness.device.capabilities import Capability
from harness.device.registers import LayoutError, Register

FIRST, EXTENDED, END = 0x40, 0x100, 0x1000
"""Where capabilities begin, and extended ones, and where a PCI Express function's configuration space ends."""


class Placed(NamedTuple):
    """A capability, and where its header is."""

    at: int
    capability: Capability

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.at + self.capability.size


def placed(capabilities: Iterable[Capability]) -> list[Placed]:
    """Give each capability a place: its own, or the next free one behind the one before it, of its kind.

    Raises `LayoutError` for one that overlaps another, or leaves its part of configuration space.
    """
    capabilities = list(capabilities)
    for capability in capabilities:
        capability.check()
    extended = list(_placed([one for one in capabilities if one.is_extended], EXTENDED, END))
    if extended and extended[0].at != EXTENDED:
        raise LayoutError(f"capability {extended[0].capability.name}: the first extended one lies at {EXTENDED:#x}")
    return [*_placed([one for one in capabilities if not one.is_extended], FIRST, EXTENDED), *extended]


def registers(chain: Sequence[Placed], taken: Collection[str]) -> Iterator[Register]:
    """Give the registers of all capabilities, with their headers, each of which points to the next of its kind.

    A name that is `taken`, or that a capability before has, gets a number.
    """
    names = set(taken)
    for one in chain:
        own = list(_own(one, _following(one, chain)))
        suffixes = (f"_{number}" if number > 1 else "" for number in count(1))
        suffix = next(s for s in suffixes if names.isdisjoint(register.name + s for register in own))
        for register in own:
            names.add(register.name + suffix)
            yield replace(register, name=register.name + suffix)


def _placed(capabilities: Iterable[Capability], start: int, end: int) -> Iterator[Placed]:
    before: list[Placed] = []
    free = start
    for capability in capabilities:
        one = Placed(free if capability.at is None else capability.at, capability)
        if one.at % 4 or one.at < start or one.end > end:
            raise LayoutError(
                f"capability {capability.name} of {capability.size:#x} bytes at {one.at:#x}: it lies between "
                f"{start:#x} and {end:#x}, at a multiple of 4"
            )
        for other in before:
            if one.at < other.end and other.at < one.end:
                raise LayoutError(
                    f"capability {capability.name} at {one.at:#x} overlaps {other.capability.name}, which lies from "
                    f"{other.at:#x} to {other.end:#x}"
                )
        before.append(one)
        free = (one.end + 3) // 4 * 4
        yield one


def _following(one: Placed, chain: Sequence[Placed]) -> int:
    if one.capability.following is not None:
        return one.capability.following
    of_its_kind = [other for other in chain if other.capability.is_extended == one.capability.is_extended]
    behind = of_its_kind[of_its_kind.index(one) + 1 :]
    return behind[0].at if behind else 0


def _own(one: Placed, following: int) -> Iterator[Register]:
    capability = one.capability
    size = capability.header_size
    if capability.version is None:
        header = capability.id | following << 8
    else:
        header = capability.id | capability.version << 16 | following << 20
    yield Register(
        f"{_word(capability.name)}_header", one.at, size, header if capability.header is None else capability.header
    )
    for register in capability.registers:
        if not size <= register.offset < register.end <= capability.size:
            raise LayoutError(
                f"capability {capability.name}: register {register.name} lies from {register.offset:#x} to "
                f"{register.end:#x}, outside of its body, {size:#x} to {capability.size:#x}"
            )
        yield replace(register, offset=one.at + register.offset)


def _word(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())
