# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are not as they should be: one line each, with the file and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from makings import put
from pydantic import BaseModel, ConfigDict

from harness.errors import UsageError
from harness.provision import toml


class Part(BaseModel):
    sizes: tuple[int, ...] = ()


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    part: Part = Part()


def test_a_file_is_read_as_its_shape(tmp_path: Path) -> None:
    path = put(tmp_path / "a.toml", 'name = "ä"\n[part]\nsizes = [1, 2]\n')
    assert toml.read(path, Thing, "thing") == Thing(name="ä", part=Part(sizes=(1, 2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": name: Field required"),
        (b'name = "x"\nnane = 1\n', ": nane: Extra inputs are not permitted"),
        (b'name = "x"\n[part]\nsizes = [1, "two"]\n', ": part.sizes.1: Input should be a valid integer, "),
        (b"other = 1\nname = 2\n", ": name: Input should be a valid string"),
        (b"name = ", " is not TOML: Invalid value "),
        (b'name = "x"\nname = "y"\n', " is not TOML: Cannot overwrite a value "),
        (b'name = "\xe4"\n', " is not TOML: 'utf-8' codec can't decode byte 0xe4 "),
        (b'name = "a\nb"\n', " is not TOML: Illegal character '\\n' "),
    ],
)
def test_the_first_thing_wrong_is_told_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = put(tmp_path / "a.toml", content)
    with pytest.raises(UsageError) as caught:
        toml.read(path, Thing, "thing")
    assert str(caught.value).startswith(f"thing {path}{message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"thing {tmp_path}/a\.toml: No such file or directory"):
        toml.read(tmp_path / "a.toml", Thing, "thing")
    with pytest.raises(UsageError, match=f"thing {tmp_path}: Is a directory"):
        toml.read(tmp_path, Thing, "thing")
