# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of a profile's *plugged* block as QMP commands to a QEMU that runs already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError
from harness.qemu.options import Option

_ADD = {"-device": "device_add", "-netdev": "netdev_add", "-blockdev": "blockdev-add", "-object": "object-add"}
_ORDER = ("-object", "-blockdev", "-netdev", "-device")
_NAMES = ("id", "node-name")
_ONLY_AT_START = frozenset({"nvme-subsys"})
"""Devices that QEMU cannot plug (hw/nvme/subsys.c: `hotpluggable = false`), but which, having no state to migrate, may
stand on a clone's command line.
"""


@dataclass(frozen=True)
class Plug:
    """One thing to plug: what QEMU calls it, its option's name, and its properties."""

    name: str
    option: str
    properties: Mapping[str, Any]

    @property
    def is_device(self) -> bool:
        """Whether it is a device, and no backend of one."""
        return self.option == "-device"

    @property
    def is_vf(self) -> bool:
        """Whether it is a VF of a PF that comes after it: the guest sees it only once the PF's driver enables VFs."""
        return "sriov-pf" in self.properties

    @property
    def command(self) -> str:
        """The QMP command that plugs it; its arguments are the properties."""
        return _ADD[self.option]


def split(plugged: Iterable[Option]) -> tuple[list[Plug], list[Option]]:
    """Give what can be plugged, in an order in which it can be, and what must stand on a command line.

    The order is that in which QEMU itself takes options from a command line, whatever their order there: backends
    before devices; those of one kind as they stand, but for function 0 of a slot, which comes last.

    Raises `UsageError` for an option that can be neither.
    """
    plugs: list[Plug] = []
    at_start: list[Option] = []
    for option in plugged:
        plug = _plug(option)
        if plug.is_device and plug.properties.get("driver") in _ONLY_AT_START:
            at_start.append(option)
        elif any((one.option, one.name) == (plug.option, plug.name) for one in plugs):
            raise UsageError(f"two of {plug.option} have the id {plug.name}")
        else:
            plugs.append(plug)
    places = [_slot(plug) for plug in plugs]
    last = {place: number for number, place in enumerate(places)}

    def rank(number: int) -> tuple[int, int, bool]:
        plug, place = plugs[number], places[number]
        is_filter = plug.option == "-object" and "netdev" in plug.properties  # system/vl.c, object_create_early()
        kind = _ORDER.index("-device" if is_filter else plug.option) * 2 - is_filter
        # A slot's functions come to be seen with its function 0, after which QEMU takes no other.
        return (kind, last[place], True) if place and _function(plug) == 0 else (kind, number, False)

    return [plugs[number] for number in sorted(range(len(plugs)), key=rank)], at_start


def _plug(option: Option) -> Plug:
    if option.name not in _ADD:
        known = ", ".join(_ADD)
        raise UsageError(f"{option.name} cannot be plugged ({known} can): give the profile hotplug = false")
    try:
        properties = json.loads(option.argument or "")
        name = next(properties[key] for key in _NAMES if key in properties)
    except (ValueError, TypeError, StopIteration) as error:
        what = f"{option.name} {option.argument}"
        raise UsageError(f"{what} cannot be plugged: write it as JSON with an id, or hotplug = false") from error
    return Plug(str(name), option.name, properties)


def _slot(plug: Plug) -> tuple[str, str] | None:
    """Give the bus and slot that a device asks for; None where it leaves that to QEMU."""
    if not (plug.is_device and "bus" in plug.properties and "addr" in plug.properties):
        return None
    slot, _, _ = str(plug.properties["addr"]).partition(".")
    return str(plug.properties["bus"]), slot


def _function(plug: Plug) -> int:
    _, _, function = str(plug.properties.get("addr", "")).partition(".")
    return int(function) if function.isdigit() else 0
