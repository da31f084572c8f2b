# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models by name: those that come with the harness, and `FILE.py:CLASS` for anybody's own."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harness.device.device import Device
from harness.device.siov import SiovDevice
from harness.errors import UsageError, unknown

BUILT_IN: Mapping[str, type[Device]] = {"siov": SiovDevice}
_WORDS_OF_BOOL = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


@dataclass(frozen=True)
class Argument:
    """One argument of a model: its type, or the few values that it takes, and its default where it has one."""

    type: type
    choices: tuple[Any, ...]
    default: Any
    required: bool

    def read(self, value: Any) -> Any:
        """Give `value` (text from a command line, or of the right type already); None when it is not."""
        if self.choices:
            return next((choice for choice in self.choices if str(choice) == str(value)), None)
        if self.type is bool:
            return value if isinstance(value, bool) else _WORDS_OF_BOOL.get(str(value).lower())
        try:
            if self.type is int and isinstance(value, str):
                return int(value, 0)
            if self.type is float and isinstance(value, int | str) and not isinstance(value, bool):
                return float(value)
        except ValueError:
            return None
        return value if isinstance(value, self.type) and not isinstance(value, bool) else None

    @property
    def takes(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return " or ".join(map(str, self.choices))
        words = {bool: "on or off", int: "a whole number", float: "a number", str: "text"}
        return words.get(self.type, self.type.__name__)


@dataclass(frozen=True)
class Model:
    """A class of devices, and what it takes to make one."""

    name: str
    made: type[Device]

    @property
    def summary(self) -> str:
        """The first line of what its class says of itself."""
        return (inspect.getdoc(self.made) or "").partition("\n")[0]

    @property
    def arguments(self) -> dict[str, Argument]:
        """What it takes, by name."""
        hints = get_type_hints(inspect.getattr_static(self.made, "__init__"))
        found = {}
        for name, one in inspect.signature(self.made).parameters.items():
            if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                continue
            kind, choices = _taken(hints.get(name, str))
            required = one.default is one.empty
            found[name] = Argument(kind, choices, None if required else one.default, required)
        return found

    def make(self, given: Mapping[str, Any]) -> Device:
        """Make a device. Raises `UsageError` for arguments that it does not take, or takes otherwise."""
        known = self.arguments
        values = {}
        for name, value in given.items():
            if name not in known:
                raise UsageError(f"device model {self.name}: {unknown('argument', name, known)}")
            values[name] = known[name].read(value)
            if values[name] is None:
                raise UsageError(f"device model {self.name}: {name}={value}: it takes {known[name].takes}")
        lacking = [name for name, one in known.items() if one.required and name not in values]
        if lacking:
            raise UsageError(f"device model {self.name} needs {', '.join(lacking)}")
        device = self.made(**values)
        check(device, f"device model {self.name}")
        return device


def find(name: str, folder: Path | None = None) -> Model:
    """Give a model: a built-in one, or the class in `FILE.py:CLASS`, a relative file counted from `folder`.

    Raises `UsageError` where there is none.
    """
    file, colon, wanted = name.rpartition(":")
    if not colon:
        if name not in BUILT_IN:
            raise UsageError(f"{unknown('device model', name, BUILT_IN)}, or FILE.py:CLASS for one of your own")
        return Model(name, BUILT_IN[name])
    path = (folder or Path.cwd()) / file
    if not _is_file(path):
        raise UsageError(f"device model {name}: there is no file {path}")
    found = getattr(_loaded(path), wanted, None)
    if not (isinstance(found, type) and issubclass(found, Device)):
        raise UsageError(f"device model {name}: {path} has no class {wanted} that is a harness.device.device.Device")
    return Model(name, found)


def _taken(hint: Any) -> tuple[type, tuple[Any, ...]]:
    """Give the type that an argument takes, or the few values; of one that may be None, what it may be else."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(one for one in get_args(hint) if one is not NoneType)
    if get_origin(hint) is Literal:
        return str, get_args(hint)
    kind = get_origin(hint) or hint
    return kind if isinstance(kind, type) else str, ()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that may not be looked into
        return False


def check(device: object, what: str) -> None:
    """Raise `UsageError` for what is no device, or one that was never made."""
    if isinstance(device, type) and issubclass(device, Device):
        raise UsageError(f"{what}: {device.__name__} is a class; a device is made of it: {device.__name__}()")
    if not isinstance(device, Device):
        raise UsageError(f"{what}: {device!r} is no harness.device.device.Device")
    if not hasattr(device, "config"):
        raise UsageError(f"{what}: {type(device).__name__}.__init__() does not call super().__init__(...)")


def _loaded(path: Path) -> Any:
    """Import a file; where a test has imported it already it is that module, so that a class is one and the same.

    What lies beside it can be imported too.
    """
    path = path.resolve()
    for known in list(sys.modules.values()):
        if getattr(known, "__file__", None) == str(path):
            return known
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"_iov_harness_model_{path.as_posix().encode().hex()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"device model {path}: this is no Python file (its name must end with .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"device model {path}: it cannot be imported: {why}") from error
    return module
