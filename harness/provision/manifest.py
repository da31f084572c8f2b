# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest root's manifest, `guest-images/initramfs/manifest.toml`, as data."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.provision import toml


class Modules(BaseModel):
    """Kernel modules that the guest root holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    early: tuple[str, ...]
    drivers: tuple[str, ...]
    available: tuple[str, ...]


class Manifest(BaseModel):
    """What the guest root holds: program or data file to package, link to target, modules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    programs: dict[str, str]
    data: dict[str, str]
    links: dict[str, str]
    modules: Modules

    @property
    def packages(self) -> tuple[str, ...]:
        """All packages to fetch, each once."""
        return tuple(sorted({*self.programs.values(), *self.data.values()}))


def read(folder: Path) -> Manifest:
    """Read the manifest in `folder`; raises `UsageError` naming what is wrong with it."""
    return toml.read(folder / "manifest.toml", Manifest, "guest root manifest")
