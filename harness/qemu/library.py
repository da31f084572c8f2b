# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding profiles, and reading their files together with those that they build upon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import Field

from harness import paths
from harness.errors import UsageError, unknown
from harness.provision import toml
from harness.qemu.profile import Data, Parameter, Profile, Requirements, Rule, Served

_BASES = "bases"
_OF_EVERY_BASE = {"memory": "int", "append": "str"}
"""Parameters that the harness itself reads: guest memory in MiB, further words for the kernel's command line."""


class _Definition(Data):
    summary: str
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    requires: Requirements = Requirements()


class _BaseDefinition(_Definition):
    base: str | None = None


class _ProfileDefinition(_Definition):
    like: str | None = None
    base: str = "q35"
    hotplug: bool = True
    pfs: tuple[str, ...] = ()
    devices: dict[str, Served] = Field(default_factory=dict)


class Library:
    """All profiles in reach: the user's own folders first, then the built-in ones."""

    def __init__(self, own: Iterable[Path] = ()) -> None:
        self.folders = (*own, paths.profiles())
        for folder in self.folders:
            if not folder.is_dir():
                raise UsageError(f"profile folder {folder}: no such folder")

    def names(self) -> list[str]:
        """List all names that can be asked for. A `.toml` without a `.j2` beside it is something else of the user's."""
        return sorted({path.stem for path in self._definitions() if _template(path).is_file()})

    def get(self, name: str) -> Profile:
        """Read one profile; raises `UsageError` for an unknown name or a file that is not as it should be."""
        path = next((path for path in self._definitions() if path.stem == name), None)
        if path is None:
            raise UsageError(unknown("profile", name, self.names()))
        return self._read(path)

    def _definitions(self) -> Iterator[Path]:
        return (path for folder in self.folders for path in folder.glob("*.toml"))

    def _read(self, path: Path) -> Profile:
        if not _template(path).is_file():
            raise UsageError(f"profile {path}: its template {_template(path).name} is missing beside it")
        own = self._definition(path)
        bases = list(self._bases(own.base, path))
        parameters: dict[str, Parameter] = {}
        for base in reversed(bases):
            parameters |= base.parameters
        for name, kind in _OF_EVERY_BASE.items():
            if name not in parameters or parameters[name].type != kind:
                needed = f"its base machine {own.base} needs the parameter {name}, of type {kind}"
                raise UsageError(f"profile {path}: {needed}")
        return Profile(
            path.stem, own.summary, own.base, own.hotplug, own.pfs, {**parameters, **own.parameters},
            (*(rule for base in reversed(bases) for rule in base.rules), *own.rules),
            joined([*(base.requires for base in bases), own.requires]), path.parent, own.devices,
            tuple(own.parameters),
        )  # fmt: skip

    def _definition(self, path: Path, asked_by: Sequence[str] = ()) -> _ProfileDefinition:
        """Read a profile's file, joined with what the profile says that it is like. What it says itself comes first."""
        own = toml.read(path, _ProfileDefinition, "profile")
        if own.like is None:
            return own
        others = {other.stem: other for other in self._definitions()}
        if own.like not in others or own.like in (path.stem, *asked_by):
            known = set(others) - {path.stem, *asked_by}
            raise UsageError(f"profile {path}: {unknown('profile', own.like, known)} to be like")
        like = self._definition(others[own.like], (*asked_by, path.stem))
        said = {name: getattr(own, name) for name in own.model_fields_set}
        joined_up = {
            "parameters": {**like.parameters, **own.parameters}, "rules": (*like.rules, *own.rules),
            "requires": joined([like.requires, own.requires]), "devices": {**like.devices, **own.devices},
        }  # fmt: skip
        return like.model_copy(update={**said, **joined_up})

    def _bases(self, name: str | None, asked_by: Path) -> Iterator[_BaseDefinition]:
        """Give a base machine and those that it extends, nearest first."""
        seen: list[str] = []
        while name is not None:
            candidates = (folder / _BASES / f"{name}.toml" for folder in self.folders)
            path = next((candidate for candidate in candidates if candidate.is_file()), None)
            if path is None or name in seen:
                known = {one.stem for folder in self.folders for one in (folder / _BASES).glob("*.toml")} - set(seen)
                raise UsageError(f"profile {asked_by}: {unknown('base machine', name, known)}")
            base = toml.read(path, _BaseDefinition, "profile")
            yield base
            seen.append(name)
            name, asked_by = base.base, path


def joined(requirements: Iterable[Requirements]) -> Requirements:
    """Give what satisfies all of these requirements."""
    devices: dict[str, frozenset[str]] = {}
    objects: frozenset[str] = frozenset()
    kernel: frozenset[str] = frozenset()
    for one in requirements:
        objects |= one.objects
        kernel |= one.kernel
        for device, properties in one.devices.items():
            devices[device] = devices.get(device, frozenset()) | properties
    return Requirements(devices=devices, objects=objects, kernel=kernel)


def _template(definition: Path) -> Path:
    return definition.with_suffix(".j2")
