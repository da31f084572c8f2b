# SPDX-License-Identifier: GPL-2.0-or-later
"""Profiles: what hardware a guest sees, as `NAME.toml` (meaning) and `NAME.j2` (QEMU options)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import UsageError, unknown

Value = int | bool | str
Parameters = Mapping[str, Value]

_WORDS_OF_BOOL = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_expressions = SandboxedEnvironment(undefined=StrictUndefined)
_MISTAKES = (TemplateError, TypeError, ValueError, ArithmeticError)
"""What a mistaken expression raises."""


class Data(BaseModel):
    """Something that stands in a profile's file: of this shape, and no other."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(Data):
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


class Rule(Data):
    """A rule between parameters: an expression that must hold, and what to say where it does not."""

    require: str
    message: str


class Requirements(Data):
    """What a profile needs: devices (and properties of them) and objects of QEMU, options of the guest's kernel.

    Every QEMU that is fetched has the devices; one that has the objects must be asked for.
    """

    devices: dict[str, frozenset[str]] = Field(default_factory=dict)
    objects: frozenset[str] = frozenset()
    kernel: frozenset[str] = frozenset()


class Served(Data):
    """A device that lives in Python: the name of its model, and what that is made with.

    In a profile the arguments are values, or expressions over its parameters. Besides, the model gets those of the
    profile's own parameters whose names it knows. Resolved, they are values.
    """

    model: str
    arguments: dict[str, Value] = Field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """A profile joined with its base machine.

    `pfs` are the QEMU ids of its physical functions, in order; `devices` those that are served to QEMU from Python;
    `own` the names of those parameters that are not the base machine's.
    """

    name: str
    summary: str
    base: str
    hotplug: bool
    pfs: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    rules: tuple[Rule, ...]
    requires: Requirements
    folder: Path
    devices: Mapping[str, Served] = field(default_factory=dict)
    own: tuple[str, ...] = ()

    def arguments(self, device: str, values: Parameters, takes: Container[str]) -> dict[str, Value]:
        """Give what resolved parameters make of a Python device's arguments, where its model `takes` those names.

        Raises `UsageError` for an expression that does not evaluate.
        """
        said = self.devices[device].arguments
        given = {name: self._evaluate(one, values) if isinstance(one, str) else one for name, one in said.items()}
        return {**{name: values[name] for name in self.own if name in takes}, **given}

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
                raise UsageError(f"profile {self.name}: {name}={wanted}: it takes {parameter.range}")
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
