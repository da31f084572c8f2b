# SPDX-License-Identifier: GPL-2.0-or-later
"""Flags that several commands share, and what they mean together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import config
from harness.config import Accel
from harness.errors import UsageError
from harness.machine.machine import Spec
from harness.machine.parts import Store
from harness.provision.progress import TerminalProgress

Kernel = Annotated[str | None, typer.Option(help="Kernel by name, or by path (anything with a '/').")]
Modules = Annotated[Path | None, typer.Option(help="Folder of the modules of a kernel given by path.")]
Qemu = Annotated[Path | None, typer.Option(help="QEMU binary to use.")]
Acceleration = Annotated[Accel | None, typer.Option("--accel", help="Accelerator: auto, tcg or kvm.")]
ProfileDir = Annotated[list[Path] | None, typer.Option(help="Folder with profiles of your own (repeatable).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="NAME=VALUE", help="Set a profile's parameter (repeatable)."),
]


def store(**flags: Any) -> Store:
    """Read the settings with these flags, and give what provides parts, telling the terminal of its progress."""
    flags["profile_dir"] = tuple(flags.get("profile_dir") or ())
    return Store(config.load(**flags), TerminalProgress())


def spec(parts_from: Store, profile: str, parameters: list[str] | None) -> Spec:
    """Describe the machine that a command asks for; everything is checked before anything is started."""
    found = parts_from.library.get(profile)
    resolved = found.resolve(dict(_assignment(text) for text in parameters or ()))
    parts = parts_from.parts()
    parts.check(found)
    return Spec(found, resolved, parts, parts_from.library.folders)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, default=str))


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--param {text}: write NAME=VALUE")
    return name, value
