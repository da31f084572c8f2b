# SPDX-License-Identifier: GPL-2.0-or-later
"""Flags that several commands share, and what they mean together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from harness import config
from harness.cli import complete, output
from harness.config import Accel
from harness.errors import UsageError
from harness.machine import devices
from harness.machine.parts import Parts, Store
from harness.machine.spec import Spec
from harness.machine.start import Starter
from harness.provision.progress import TerminalProgress
from harness.qemu.template import Renderer, Software, Wiring

Kernel = Annotated[
    str | None,
    typer.Option(help="Kernel by name, or by path (anything with a '/').", autocompletion=complete.kernels),
]
Modules = Annotated[Path | None, typer.Option(help="Folder of the modules of a kernel given by path.")]
Qemu = Annotated[
    Path | None,
    typer.Option(help="QEMU binary to use, or one of our own builds: overlay, overlay-sanitized."),
]
Acceleration = Annotated[Accel | None, typer.Option("--accel", help="Accelerator: auto, tcg or kvm.")]
ProfileDir = Annotated[list[Path] | None, typer.Option(help="Folder with profiles of your own (repeatable).")]
Cold = Annotated[bool, typer.Option("--cold", help="Boot machines, instead of cloning a checkpoint.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="NAME=VALUE", help="Set a profile's parameter (repeatable)."),
]

_NOWHERE = Wiring("null", "null", "null", "null")


def store(**flags: Any) -> Store:
    """Read the settings with these flags, and give what provides parts, telling the terminal of its progress."""
    flags["profile_dir"] = tuple(flags.get("profile_dir") or ())
    return Store(config.load(**flags), TerminalProgress())


def spec(parts_from: Store, profile: str, parameters: list[str] | None) -> Spec:
    """Describe the machine that a command asks for; everything is checked before anything is fetched or started."""
    found = parts_from.library.get(profile)
    resolved = found.resolve(assignments(parameters))
    folders = parts_from.library.folders
    # Rendered once with stand-ins, so that a mistake in a template is told at once.
    Renderer(folders).command_line(found, resolved, Software("tcg", Path("/kernel"), Path("/initramfs")), _NOWHERE)
    devices.made(found, resolved)  # and in a device's model
    parts = parts_from.parts(profile=found)
    parts.check(found)
    return Spec(found, resolved, parts, folders)


def starter(parts_from: Store, directory: Path, *, cold: bool = False) -> Starter:
    """Give what brings a command's machines up; the records of base machines go to `directory`."""
    return Starter(parts_from.cache, lambda: directory, parts_from.settings.boot_timeout, cold=cold)


def announce(parts: Parts) -> None:
    """Say on standard error what machines will be made of, and which accelerator was chosen, and why."""
    console = output.console(stderr=True)
    kernel = f"kernel {parts.kernel.name} ({parts.kernel.release or 'its release is unknown'})"
    console.print(f"QEMU {parts.qemu.version} ({parts.qemu.origin}), {kernel}")
    console.print(Text.assemble("accelerator ", (parts.accel.name, "bold"), f": {parts.accel.reason}"))


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, default=str))


def assignments(given: list[str] | None) -> dict[str, str]:
    """Read the values of `-p NAME=VALUE`. Raises `UsageError` for what is no assignment."""
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--param {text}: write NAME=VALUE")
        found[name] = value
    return found
