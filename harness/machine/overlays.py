# SPDX-License-Identifier: GPL-2.0-or-later
"""The overlays of a machine: those that its profile declares, and those that a test puts over a function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.device.overlay import QOM_TYPE, Overlay
from harness.errors import UsageError
from harness.qemu.hotplug import Plug
from harness.qemu.qmp import CommandRefused, Monitor

_PATH = "/objects"
"""Where QEMU has the objects that users make (object_get_objects_root(), qom/object.c)."""


class Overlays:
    """Gives each function's overlay, one for each, made when it is first asked for."""

    def __init__(self, qmp: Monitor, declared: Iterable[Plug]) -> None:
        self._qmp = qmp
        self._found: dict[tuple[str, int | None], Overlay] = {}
        for plug in declared:
            properties = plug.properties
            if plug.option == "-object" and properties.get("qom-type") == QOM_TYPE:
                place = (str(properties["device"]), properties.get("vf"))
                rules = properties.get("rules", [])
                self._found[place] = self._handle(plug.name, rules, properties.get("routing-id"))

    def get(self, device: str, vf: int | None = None) -> Overlay:
        """Give the overlay of a device, or of a VF of the PF `device`.

        Raises `UsageError` where QEMU has no such function, or refuses to lay anything over it.
        """
        if (device, vf) not in self._found:
            name = f"overlay-{device}" if vf is None else f"overlay-{device}-vf{vf}"
            which = {} if vf is None else {"vf": vf}
            try:
                self._qmp.command("object-add", {"qom-type": QOM_TYPE, "id": name, "device": device, **which})
            except CommandRefused as refused:
                raise UsageError(f"QEMU puts no overlay over {device}: {refused.desc}") from None
            made = self._handle(name, [])
            if not made.is_attached:
                self._qmp.execute("object-del", id=name)
                what = f"no PCI device {device!r}" if vf is None else f"no VF {vf} of a PF {device!r}"
                raise UsageError(f"QEMU has {what}: nothing can be laid over it")
            self._found[device, vf] = made
        return self._found[device, vf]

    def check(self) -> None:
        """Raise `UsageError` where an overlay of the profile's lies over nothing: QEMU has said why on its output."""
        for (device, vf), overlay in self._found.items():
            if not overlay.is_attached:
                which = device if vf is None else f"VF {vf} of {device}"
                raise UsageError(f"the profile's overlay of {which} was not taken: no such function, or no room in it")

    def clear(self) -> None:
        """Let the guest see all functions as they are, or as the profile declares them."""
        for overlay in self._found.values():
            overlay.clear()

    def _handle(self, name: str, rules: list[dict[str, Any]], routing_id: int | None = None) -> Overlay:
        path = f"{_PATH}/{name}"
        return Overlay(
            lambda what: self._qmp.execute("qom-get", path=path, property=what),
            lambda what, value: self._qmp.execute("qom-set", path=path, property=what, value=value),
            rules,
            routing_id,
        )
