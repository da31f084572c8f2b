# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest sees of a function that QEMU itself models, changed: by iov-overlay, an object in QEMU.

The words are those of a device that lives in Python: `config`, `faults`, `log`. An overlay is handed what gets and sets
the object's properties, and knows nothing else of QEMU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from harness import chain
from harness.device import capabilities, config_space
from harness.device.capabilities import Capability
from harness.device.config_space import Identity
from harness.device.device import CONFIG
from harness.device.faults import FOREVER
from harness.device.log import Entry, Kind
from harness.device.registers import Register

QOM_TYPE = "iov-overlay"
"""What QEMU calls it."""
END = 0x1000
"""Where the configuration space of a PCI Express function ends."""
DROP, KEEP, PASS = "drop", "keep", "pass"
"""What becomes of a guest's write to what is overlaid: it is lost, it is what is seen from then on, it is done."""

Getter = Callable[[str], Any]
Setter = Callable[[str, Any], object]
When = Mapping[str, int]
"""Registers of the function itself, and what they must hold."""

_KNOWN = {
    one.id: one
    for one in (
        capabilities.sriov(total_vfs=0, first_vf_offset=0, vf_stride=0),
        capabilities.siov(total_sdis=0, first_sdi_offset=0, sdi_stride=0),
        capabilities.ats(),
        capabilities.pasid(),
        capabilities.serial_number(0),
    )
}
"""Extended capabilities whose registers have names."""
_ITS_OWN = 0xFFFFFFFF
"""What iov-overlay takes for no routing ID (`NONE` in iov-overlay.c)."""
_LAST_ROUTING_ID = 0xFFFF
_NOBODY = Identity(0, 0)
"""The header's registers are wanted for their names and places."""


@dataclass(eq=False)
class Rule:
    """What a guest sees of some bytes, until `end` is called. As a context manager it ends with its block.

    It is in force for accesses that touch its bytes, but for the first `after` of them, and for `times` of them (None:
    always). Each change of an overlay has all its rules count anew.
    """

    overlay: Overlay
    plain: dict[str, Any]
    name: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let the guest see what is behind it again."""
        self.overlay.without(self)


class Overlay:
    """One overlay: for a device, or for a VF of a PF."""

    def __init__(
        self, get: Getter, set_: Setter, declared: list[dict[str, Any]] | None = None, routing_id: int | None = None
    ) -> None:
        self._get, self._set = get, set_
        self._declared_routing_id = routing_id
        self._declared = [Rule(self, one) for one in declared or []]
        self._rules = self._declared
        self.config = Config(self)
        self.faults = Faults(self)
        self.log = Log(get)

    @property
    def is_attached(self) -> bool:
        """Whether its function is there."""
        return bool(self._get("config"))

    def own(self) -> bytes:
        """Give the configuration space of the function itself. Raises `LookupError` while that is not there."""
        found = bytes(self._get("config"))
        if not found:
            raise LookupError("the overlay's function is not there")
        return found

    def show(
        self, at: int, value: bytes, *, mask: bytes | None = None, writes: str = DROP, after: int = 0,
        times: int | None = FOREVER, when: When | None = None, name: str | None = None,
    ) -> Rule:  # fmt: skip
        """Have the guest see `value` from `at` on, or those bits of it that `mask` has.

        `when`: only while the function's own registers hold this. Raises `ValueError` for what no rule can be, and what
        QEMU says of one that cannot be here.
        """
        if times is not None and times < 1:
            raise ValueError(f"times={times}: a rule is in force at least once, or always (None)")
        if at < 0 or not value:
            raise ValueError(f"{len(value)} bytes at {at}: a rule is for bytes of configuration space")
        if writes not in (DROP, KEEP, PASS):
            raise ValueError(f"writes={writes!r}: what becomes of a write is {DROP!r}, {KEEP!r} or {PASS!r}")
        if mask is not None and len(mask) != len(value):
            raise ValueError(f"a mask of {len(mask)} bytes for a value of {len(value)}: they are of one length")
        plain: dict[str, Any] = {"at": at, "value": list(value), "writes": writes, "after": after, "times": times or 0}
        if mask is not None:
            plain["mask"] = list(mask)
        if when:
            plain["when"] = self._condition(when)
        return self._with(Rule(self, plain, name))

    def add(self, capability: Capability) -> Rule:
        """Have the guest see an extended capability that the function does not have, linked into its chain.

        It is placed where there is room, unless it says where.
        """
        if capability.version is None:
            raise ValueError(f"{capability.name}: only extended capabilities can be added")
        header = {"id": capability.id, "version": capability.version}
        place = {} if capability.at is None else {"at": capability.at}
        return self._with(Rule(self, {"capability": header, "value": list(body(capability)), **place}))

    def answer_at(self, routing_id: int | None) -> None:
        """Have the function answer at a routing ID of its root complex, on any bus, instead of its own (None).

        Raises `ValueError` for what is no routing ID.
        """
        if routing_id is not None and not 0 <= routing_id <= _LAST_ROUTING_ID:
            raise ValueError(f"routing ID {routing_id:#x}: it is bus << 8 | device << 3 | function, of 16 bits")
        self._set("routing-id", _ITS_OWN if routing_id is None else routing_id)

    def clear(self) -> None:
        """Let the guest see the function as it is, or as its profile declares it."""
        self._renew(self._declared)
        self.answer_at(self._declared_routing_id)

    def without(self, rule: Rule) -> None:
        """Have one rule less."""
        if rule in self._rules:
            self._renew([one for one in self._rules if one is not rule])

    def named(self, name: str) -> Rule | None:
        """Give the rule that is for a register."""
        return next((one for one in self._rules if one.name == name), None)

    def _with(self, rule: Rule) -> Rule:
        others = [one for one in self._rules if rule.name is None or one.name != rule.name]
        self._renew([*others, rule])
        return rule

    def _renew(self, rules: list[Rule]) -> None:
        self._set("rules", [rule.plain for rule in rules])
        self._rules = rules

    def _condition(self, when: When) -> dict[str, Any]:
        """Give what must hold, as one run of bytes with a mask: QEMU compares those."""
        places = [(self.config.register(name), value) for name, value in when.items()]
        start = min(register.offset for register, _ in places)
        length = max(register.end for register, _ in places) - start
        wanted, mask = bytearray(length), bytearray(length)
        for register, value in places:
            place = slice(register.offset - start, register.end - start)
            wanted[place] = _bytes(register, value)
            mask[place] = b"\xff" * register.size
        return {"at": start, "value": list(wanted), "mask": list(mask)}


class Config:
    """The function's configuration space, by the names of its registers."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def register(self, name: str) -> Register:
        """Give where a register is; raises `KeyError` naming those that there are."""
        return _register(self._overlay.own(), name)

    def __getitem__(self, name: str) -> int:
        """Give what the function itself has in a register."""
        own = self._overlay.own()
        register = _register(own, name)
        return int.from_bytes(own[register.offset : register.end], "little")

    def __setitem__(self, name: str, value: int) -> None:
        """Have the guest see a value in a register, whose writes are lost."""
        self.show(name, value)

    def __delitem__(self, name: str) -> None:
        """Let the guest see a register as it is."""
        rule = self._overlay.named(name)
        if rule is None:
            raise KeyError(f"nothing is shown for register {name}")
        rule.end()

    def show(self, name: str, value: int, *, mask: int | None = None, **how: Any) -> Rule:
        """Have the guest see a value in a register, in place of what was shown for it; `how` as `Overlay.show`.

        Raises `KeyError` for a register that is not there, `ValueError` for a value or a mask that does not fit.
        """
        register = self.register(name)
        bits = None if mask is None else _bytes(register, mask)
        return self._overlay.show(register.offset, _bytes(register, value), mask=bits, name=name, **how)

    def find(self, id_: int) -> int:
        """Give where the function itself has an extended capability; raises `LookupError`."""
        for link in chain.extended(self._overlay.own()):
            if link.id == id_:
                return link.at
        raise LookupError(f"the function has no extended capability {id_:#x}")

    def link(self, at: int, following: int) -> Rule:
        """Have the extended capability at `at` point to `following`, wherever that leads."""
        header = int.from_bytes(self._overlay.own()[at : at + 4], "little")
        changed = (header & 0xFFFFF | following << 20).to_bytes(4, "little")
        return self._overlay.show(at, changed, name=f"link at {at:#x}")


class Faults:
    """How the function misbehaves; each also gives the rule, to `end` it."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def all_ones(self, *, times: int | None = FOREVER, after: int = 0) -> Rule:
        """Answer reads with all ones and drop writes, as a device that is gone; its BARs stay."""
        return self._overlay.show(0, b"\xff" * len(self._overlay.own()), times=times, after=after)

    def wrong_value(self, offset: int, value: int, length: int, *, times: int | None = FOREVER, after: int = 0) -> Rule:
        """Answer reads of the `length` bytes at `offset` with `value`, whatever they hold; writes are done."""
        wrong = _bytes(Register(f"what is at {offset:#x}", offset, length), value)
        return self._overlay.show(offset, wrong, writes=PASS, times=times, after=after)


@dataclass
class Log:
    """The newest accesses to configuration space, in their order. `mark` and `since` as in a Python device's log."""

    _get: Getter

    def entries(self, *, since: int = 0) -> list[Entry]:
        """Give the accesses that are still known, from the one on that was the `since`th. QEMU notes no times."""
        said = self._get("log")
        first = int(said["count"]) - len(said["accesses"])
        kept = said["accesses"][max(0, since - first) :]
        return [
            Entry(0.0, Kind.WRITE if one["write"] else Kind.READ, CONFIG, one["at"], one["size"], one["value"])
            for one in kept
        ]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())

    def mark(self) -> int:
        """Give a place in the log, for `since`: how many accesses there have been."""
        return int(self._get("log")["count"])

    def reads(self, offset: int | None = None, *, since: int = 0) -> list[Entry]:
        """Give the reads, or those of them that touch the byte at `offset`."""
        return [one for one in self.entries(since=since) if one.kind is Kind.READ and _touches(one, offset)]

    def writes(self, offset: int | None = None, *, since: int = 0) -> list[Entry]:
        """Give the writes, as `reads`."""
        return [one for one in self.entries(since=since) if one.kind is Kind.WRITE and _touches(one, offset)]


def body(capability: Capability) -> bytes:
    """Give what a capability holds behind its header."""
    held = bytearray(capability.size - capability.header_size)
    for register in capability.registers:
        start = register.offset - capability.header_size
        held[start : start + register.size] = register.value.to_bytes(register.size, "little")
    return bytes(held)


def _bytes(register: Register, value: int) -> bytes:
    if not 0 <= value < 1 << 8 * register.size:
        raise ValueError(f"{register.name} has {8 * register.size} bits, which do not hold {value:#x}")
    return value.to_bytes(register.size, "little")


def _touches(entry: Entry, offset: int | None) -> bool:
    return offset is None or entry.offset <= offset < entry.offset + entry.length


def _register(config: bytes, name: str) -> Register:
    found = {one.name: one for one in _registers(config)}
    if name not in found:
        raise KeyError(f"the function has no register {name}, but {', '.join(found)}")
    return found[name]


def _registers(config: bytes) -> Iterator[Register]:
    yield from config_space.header(_NOBODY, 0)
    for link in chain.extended(config):
        if link.id in _KNOWN:
            for register in _KNOWN[link.id].registers:
                yield Register(register.name, link.at + register.offset, register.size)
