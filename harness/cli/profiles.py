# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness profiles`: what machines there are."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from harness import config
from harness.cli import flags
from harness.qemu.profile import Library, Profile


def profiles(
    name: Annotated[str | None, typer.Argument(help="Show this one with its parameters.")] = None,
    profile_dir: flags.ProfileDir = None,
    json: flags.Json = False,
) -> None:
    """List the profiles (the machines that a guest can see), or show one."""
    library = Library(config.load(profile_dir=tuple(profile_dir or ())).profile_dir)
    found = [library.get(one) for one in ([name] if name else library.names())]
    if json:
        flags.print_json([_plain(profile) for profile in found])
    elif name:
        _show(found[0])
    else:
        table = Table("profile", "what it is", box=None, pad_edge=False)
        for profile in found:
            table.add_row(profile.name, profile.summary)
        Console().print(table)


def _show(profile: Profile) -> None:
    console = Console()
    console.print(f"[bold]{profile.name}[/]: {profile.summary}", highlight=False)
    table = Table("parameter", "default", "takes", "what it is", box=None, pad_edge=False)
    for name, parameter in profile.parameters.items():
        default = parameter.default_from if parameter.default is None else parameter.default
        table.add_row(name, str(default), parameter.range, parameter.help)
    console.print(table)


def _plain(profile: Profile) -> dict[str, Any]:
    fields = dataclasses.asdict(profile)
    fields["parameters"] = {name: one.model_dump() for name, one in profile.parameters.items()}
    fields["rules"] = [rule.model_dump() for rule in profile.rules]
    fields["requires"] = {
        "devices": {name: sorted(properties) for name, properties in profile.requires.devices.items()},
        "kernel": sorted(profile.requires.kernel),
    }
    return fields
