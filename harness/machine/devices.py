# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python devices of a machine: made from their models, served at sockets, their logs kept with the records."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.device import models
from harness.device.device import Device
from harness.device.vfio_user.server import Server
from harness.qemu.profile import Profile, Served, Value
from harness.qemu.template import Wiring


def made(profile: Profile, parameters: Mapping[str, Value]) -> dict[str, Device]:
    """Make the devices that a profile serves. Raises `UsageError` for a model or an argument that is none."""
    found = {}
    for name, served in profile.served(parameters).items():
        found[name] = models.find(served.model, profile.folder).make(served.arguments or {})
    return found


@contextmanager
def at_socket(device: Device, socket: Path, log: Path | None) -> Iterator[Device]:
    """Serve a device while the block lasts; then write to `log`, where there is one, what was done to it."""
    try:
        with Server(device, socket):
            yield device
    finally:
        if log is not None:
            with suppress(OSError):  # a full disk is nobody's fault, and the console's record tells of it
                device.log.save(log)


def by_hand(served: Mapping[str, Served], wiring: Wiring) -> Iterator[str]:
    """Give the commands that serve devices to a QEMU whose command line is pasted."""
    for name, one in served.items():
        words = ["harness", "device", "serve", one.model, "--socket", wiring.device(name)]
        for argument, value in (one.arguments or {}).items():
            words += ["-p", f"{argument}={_word(value)}"]
        yield shlex.join(words)


def check(devices: Iterable[Device]) -> None:
    """Raise what a model did wrong and nobody was told yet."""
    for device in devices:
        error, device.broken = device.broken, None
        if error is not None:
            raise error


def _word(value: Value) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
