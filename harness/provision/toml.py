# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a TOML file as data of one shape; whatever is wrong with the file is told in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UsageError

_Shape = TypeVar("_Shape", bound=BaseModel)


def read(path: Path, shape: type[_Shape], what: str) -> _Shape:
    """Read the file; raises `UsageError`, which calls it `what` it is and names the first thing wrong with it."""
    try:
        return shape.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{what} {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{what} {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:  # of tomllib, or for bytes that are not UTF-8
        raise UsageError(f"{what} {path} is not TOML: {error}") from error
