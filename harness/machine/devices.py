# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python devices of a machine: made from their models, served at sockets, their logs kept with the records."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.device import models
from harness.device.device import Device
from harness.device.models import Model
from harness.device.registers import LayoutError
from harness.device.vfio_user.server import Server
from harness.errors import HarnessError, ModelFailed, UsageError
from harness.qemu.profile import Profile, Value
from harness.qemu.template import Wiring


def made(profile: Profile, parameters: Mapping[str, Value]) -> dict[str, Device]:
    """Make the devices that a profile serves. Raises `UsageError` for a model or an argument that is none."""
    found = {}
    for name, served in profile.devices.items():
        check_name(name)
        with blamed(served.model):
            model, arguments = _resolved(profile, name, parameters)
            found[name] = model.make(arguments)
    return found


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,15}")


@contextmanager
def blamed(model: str) -> Iterator[None]:
    """Tell in one line, as a `UsageError`, what a model raises that is wrong itself: which one, and where."""
    try:
        yield
    except LayoutError as error:
        raise UsageError(f"device model {model}: {error}") from error
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        file = Path(model.rpartition(":")[0]).name
        last = next((one for one in reversed(frames) if file and Path(one.filename).name == file), frames[-1])
        where = f"{last.filename}, line {last.lineno}"
        raise UsageError(f"device model {model}: {type(error).__name__}: {error} ({where})") from error


def check_name(name: str) -> None:
    """Raise `UsageError` for a name that is none for a device: it is QEMU's id, and part of names of files."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"device {name!r}: a name has 1 to 16 letters, digits, '-' or '_', the first one a letter")


@contextmanager
def at_socket(device: Device, socket: Path, log: Path | None) -> Iterator[Device]:
    """Serve a device while the block lasts; then write to `log`, where there is one, what was done to it.

    It takes no files of memory: QEMU 11.1 passes the RAM file of a clone, though it maps that privately. What is read
    there is not what the guest has written, and what is written the guest never sees (nor is it: the file is open for
    reading only).
    """
    try:
        with Server(device, socket, memory_files=False):
            yield device
    finally:
        if log is not None:
            with suppress(OSError):  # a full disk is nobody's fault, and the console's record tells of it
                device.log.save(log)


def by_hand(profile: Profile, parameters: Mapping[str, Value], wiring: Wiring) -> Iterator[str]:
    """Give the commands that serve a profile's devices to a QEMU whose command line is pasted."""
    for name, served in profile.devices.items():
        _, arguments = _resolved(profile, name, parameters)
        words = ["harness", "device", "serve", _reached(served.model, profile.folder), "--socket", wiring.device(name)]
        for argument, value in arguments.items():
            words += ["-p", f"{argument}={_word(value)}"]
        yield shlex.join(words)


def check(devices: Iterable[Device]) -> None:
    """Raise as `ModelFailed` what a model did wrong and nobody was told yet."""
    for device in devices:
        error, device.broken = device.broken, None
        if error is not None:
            name = type(device).__name__
            raise ModelFailed(f"device model {name} failed: {type(error).__name__}: {error}") from error


def _resolved(profile: Profile, name: str, parameters: Mapping[str, Value]) -> tuple[Model, Mapping[str, Value]]:
    model = models.find(profile.devices[name].model, profile.folder)
    return model, profile.arguments(name, parameters, model.arguments)


def _reached(model: str, folder: Path) -> str:
    """Name a model so that it is found from any folder."""
    file, colon, name = model.rpartition(":")
    return f"{(folder / file).absolute()}:{name}" if colon else model


def _word(value: Value) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
