# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness profiles`: what machines there are."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer
from rich.text import Text

from harness import config
from harness.cli import complete, flags, output
from harness.qemu.library import Library
from harness.qemu.profile import Parameter, Profile


def profiles(
    name: Annotated[
        str | None, typer.Argument(help="Show this one with its parameters.", autocompletion=complete.profiles)
    ] = None,
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
        output.table("profile", "what it is", rows=((profile.name, profile.summary) for profile in found))


def _show(profile: Profile) -> None:
    output.console().print(Text.assemble((profile.name, "bold"), f": {profile.summary}"))
    rows = ((name, _default(one), one.range, one.help) for name, one in profile.parameters.items())
    output.table("parameter", "default", "takes", "what it is", rows=rows)


def _default(parameter: Parameter) -> str:
    return str(parameter.default_from if parameter.default is None else parameter.default)


def _plain(profile: Profile) -> dict[str, Any]:
    fields = dataclasses.asdict(profile)
    fields["parameters"] = {name: one.model_dump() for name, one in profile.parameters.items()}
    fields["rules"] = [rule.model_dump() for rule in profile.rules]
    fields["devices"] = {name: one.model_dump() for name, one in profile.devices.items()}
    fields["requires"] = {
        "devices": {name: sorted(properties) for name, properties in profile.requires.devices.items()},
        "kernel": sorted(profile.requires.kernel),
    }
    return fields
