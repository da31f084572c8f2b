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
                self._found[place] = self._handle(plug.name, properties.get("rules", []))

    def get(self, device: str, vf: int | None = None) -> Overlay:
        """Give the overlay of a device, or of a VF of the PF `device`; raises `UsageError` where QEMU refuses it."""
        if (device, vf) not in self._found:
            name = f"overlay-{device}" if vf is None else f"overlay-{device}-vf{vf}"
            which = {} if vf is None else {"vf": vf}
            try:
                self._qmp.command("object-add", {"qom-type": QOM_TYPE, "id": name, "device": device, **which})
            except CommandRefused as refused:
                raise UsageError(f"QEMU puts no overlay over {device}: {refused.desc}") from None
            self._found[device, vf] = self._handle(name, [])
        return self._found[device, vf]

    def clear(self) -> None:
        """Let the guest see all functions as they are, or as the profile declares them."""
        for overlay in self._found.values():
            overlay.clear()

    def _handle(self, name: str, rules: list[dict[str, Any]]) -> Overlay:
        path = f"{_PATH}/{name}"
        return Overlay(
            lambda what: self._qmp.execute("qom-get", path=path, property=what),
            lambda what, value: self._qmp.execute("qom-set", path=path, property=what, value=value),
            rules,
        )
