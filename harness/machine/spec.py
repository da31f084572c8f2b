# SPDX-License-Identifier: GPL-2.0-or-later
"""Which machine: a profile with all its parameters, the parts it is made of, and the command lines that start it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.device.device import Device
from harness.errors import UsageError
from harness.machine import devices
from harness.machine.parts import Parts
from harness.qemu import hotplug, options
from harness.qemu.hotplug import Plug
from harness.qemu.options import Option
from harness.qemu.profile import Profile, Value
from harness.qemu.template import CommandLine, Renderer, Software, Wiring

_CLONE_OPTIONS = frozenset({"ACPI", "HOTPLUG_PCI", "HOTPLUG_PCI_ACPI", "VMGENID"})
"""What a kernel needs to see a device that is plugged (q35's root ports leave it to ACPI), and to seed its random
numbers anew.
"""
_MIB = 1024 * 1024

_renderer = functools.cache(Renderer)


@dataclass(frozen=True)
class Spec:
    """A machine, described. Each command line is given for a `Wiring`."""

    profile: Profile
    parameters: Mapping[str, Value]
    parts: Parts
    folders: tuple[Path, ...]

    @property
    def can_be_cloned(self) -> bool:
        """Whether the profile's devices can be plugged, and the kernel is fit for it, as far as is known."""
        return self.profile.hotplug and not self.parts.kernel.missing(_CLONE_OPTIONS)

    def command_line(self, wiring: Wiring) -> tuple[Option, ...]:
        """Give the options of a cold boot: the machine with all its devices."""
        return self._rendered(wiring).whole

    def base_line(self, wiring: Wiring, ram: Path) -> tuple[Option, ...]:
        """Give the options of the base machine, without what is plugged, whose memory is the file `ram`."""
        return (*self._rendered(wiring).machine, *self._memory(ram, share=True))

    def clone_line(self, wiring: Wiring, ram: Path) -> tuple[Option, ...]:
        """Give the options of a machine that awaits a checkpoint's state, and takes the file `ram` for its memory.

        It maps the file copy-on-write, and opens it for reading only: what it writes stays its own.
        """
        line = self._rendered(wiring)
        _, at_start = hotplug.split(line.plugged)
        memory = self._memory(ram, share=False, readonly=True, rom="off")
        return (*line.machine, *at_start, *memory, Option("-incoming", "defer"), Option("-S"))

    def plugs(self, wiring: Wiring | None = None) -> list[Plug]:
        """Give what is plugged into a clone, in order; for a clone that runs, with its own `wiring`."""
        plugs, _ = hotplug.split(self._rendered(wiring or Wiring.by_hand()).plugged)
        return plugs

    def objects(self, wiring: Wiring) -> list[Plug]:
        """Give the objects that the profile has (`-object`) among what is plugged."""
        plugged = self._rendered(wiring).plugged
        return hotplug.split(option for option in plugged if option.name == "-object")[0]

    def devices(self) -> dict[str, Device]:
        """Make the devices that live in Python, by their QEMU ids. Raises `UsageError`."""
        return devices.made(self.profile, self.parameters)

    def by_hand(self, line: tuple[Option, ...], wiring: Wiring) -> str:
        """Give a command line to paste, with what has to run before it."""
        before = devices.by_hand(self.profile, self.parameters, wiring)
        first = "".join(f"# first, in another terminal: {command}\n" for command in before)
        return first + options.shell(str(self.parts.qemu.path), line)

    def about(self) -> dict[str, Any]:
        """Give what a record of a run says of its machine."""
        parts = self.parts
        return {
            "profile": self.profile.name, "parameters": dict(self.parameters), "kernel": parts.kernel.name,
            "release": parts.kernel.release, "kernel_origin": parts.kernel.origin,
            "kernel_content": parts.kernel.content, "qemu": parts.qemu.version,
            "qemu_origin": parts.qemu.origin, "accel": parts.accel.name,
        }  # fmt: skip

    def _rendered(self, wiring: Wiring) -> CommandLine:
        append = str(self.parameters["append"])
        software = Software(self.parts.accel.options, self.parts.kernel.image, self.parts.initramfs, append)
        line = _renderer(self.folders).command_line(self.profile, self.parameters, software, wiring)
        for name in ("qmp", "console", "link"):
            if not any(getattr(wiring, name) in (option.argument or "") for option in line.machine):
                lacking = f"base machine {self.profile.base} must give a -chardev to {{{{ wiring.{name} }}}}"
                raise UsageError(f"profile {self.profile.name}: {lacking} (is super() missing in a block machine?)")
        return line

    def _memory(self, ram: Path, **how: Any) -> tuple[Option, ...]:
        size = int(self.parameters["memory"]) * _MIB
        backend = {"qom-type": "memory-backend-file", "id": "ram", "size": size, "mem-path": str(ram), **how}
        return Option("-object", json.dumps(backend)), Option("-machine", "memory-backend=ram")
