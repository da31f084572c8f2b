# SPDX-License-Identifier: GPL-2.0-or-later
"""Profiles: what hardware a guest sees, as `NAME.toml` (meaning) and `NAME.j2` (QEMU options)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness import paths
from harness.errors import UsageError, unknown
from harness.provision import toml

Value = int | bool | str
Parameters = Mapping[str, Value]

_BASES = "bases"
_OF_EVERY_BASE = {"memory": "int", "append": "str"}
"""Parameters that the harness itself reads: guest memory in MiB, further words for the kernel's command line."""
_WORDS_OF_BOOL = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_expressions = SandboxedEnvironment(undefined=StrictUndefined)
_MISTAKES = (TemplateError, TypeError, ValueError, ArithmeticError)
"""What a mistaken expression raises."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Data):
    """One parameter: its type, its default (`default_from` computes it from the others), its range."""

    type: Literal["int", "bool", "str"]
    help: str
    default: int | bool | str | None = None
    default_from: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_one_default(self) -> Self:
        if (self.default is None) == (self.default_from is None):
            raise ValueError("needs either default or default_from")
        return self

    @property
    def range(self) -> str:
        """The values that are allowed, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.type == "int":
            low = "" if self.minimum is None else str(self.minimum)
            high = "" if self.maximum is None else str(self.maximum)
            return f"{low}..{high}" if low or high else "a whole number"
        return "on or off" if self.type == "bool" else "text of one line"

    def read(self, value: Any) -> Value | None:
        """Give `value` (text from a command line, or a Python value) in this parameter's type; None when it is not."""
        parsed = _parse(self.type, value)
        if parsed is None or (self.choices and parsed not in self.choices):
            return None
        if isinstance(parsed, int) and not isinstance(parsed, bool):
            too_small = self.minimum is not None and parsed < self.minimum
            too_large = self.maximum is not None and parsed > self.maximum
            return None if too_small or too_large else parsed
        return parsed


class Rule(_Data):
    """A rule between parameters: an expression that must hold, and what to say where it does not."""

    require: str
    message: str


class Requirements(_Data):
    """What a profile needs: devices (and properties of them) of QEMU, options of the guest's kernel."""

    devices: dict[str, frozenset[str]] = Field(default_factory=dict)
    kernel: frozenset[str] = frozenset()


class _Definition(_Data):
    summary: str
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    requires: Requirements = Requirements()


class _BaseDefinition(_Definition):
    base: str | None = None


class _ProfileDefinition(_Definition):
    base: str = "q35"
    hotplug: bool = True
    pfs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A profile joined with its base machine. `pfs` are the QEMU ids of its physical functions, in order."""

    name: str
    summary: str
    base: str
    hotplug: bool
    pfs: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    rules: tuple[Rule, ...]
    requires: Requirements
    folder: Path

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Give all parameters, checked: those `given`, and the defaults of the others.

        Raises `UsageError` for an unknown name, a value out of range, or a rule that does not hold.
        """
        for name in given:
            if name not in self.parameters:
                raise UsageError(f"profile {self.name}: {unknown('parameter', name, self.parameters)}")
        values: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            wanted = given[name] if name in given else self._default(parameter, values)
            value = parameter.read(wanted)
            if value is None:
                raise UsageError(f"profile {self.name}: {name}={wanted} is out of range: it takes {parameter.range}")
            values[name] = value
        for rule in self.rules:
            if not self._evaluate(rule.require, values):
                raise UsageError(f"profile {self.name}: {self._rendered(rule.message, values)}")
        return values

    def _default(self, parameter: Parameter, values: Parameters) -> Any:
        # Parameters stand in the order of their file, so a computed default may use those above it.
        return parameter.default if parameter.default_from is None else self._evaluate(parameter.default_from, values)

    def _evaluate(self, expression: str, values: Parameters) -> Any:
        try:
            found = _expressions.compile_expression(expression, undefined_to_none=False)(**values)
            return str(found) if isinstance(found, Undefined) else found  # its str() raises, naming it
        except _MISTAKES as error:
            raise UsageError(f"profile {self.name}: {expression!r} does not evaluate: {error}") from error

    def _rendered(self, message: str, values: Parameters) -> str:
        try:
            return _expressions.from_string(message).render(values)
        except _MISTAKES as error:
            raise UsageError(f"profile {self.name}: the message {message!r} does not render: {error}") from error


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
        own = toml.read(path, _ProfileDefinition, "profile")
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
            joined([*(base.requires for base in bases), own.requires]), path.parent,
        )  # fmt: skip

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
    kernel: frozenset[str] = frozenset()
    for one in requirements:
        kernel |= one.kernel
        for device, properties in one.devices.items():
            devices[device] = devices.get(device, frozenset()) | properties
    return Requirements(devices=devices, kernel=kernel)


def _template(definition: Path) -> Path:
    return definition.with_suffix(".j2")


def _parse(kind: str, value: Any) -> Value | None:
    if kind == "str":
        return value if isinstance(value, str) and value.isprintable() else None
    if isinstance(value, bool):
        return value if kind == "bool" else None
    if isinstance(value, int):
        return value if kind == "int" else None
    if not isinstance(value, str):
        return None
    if kind == "bool":
        return _WORDS_OF_BOOL.get(value.lower())
    try:
        return int(value, 0)
    except ValueError:
        return None
