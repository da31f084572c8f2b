# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test is written in: its own file, and those that pytest finds beside and above it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

_OF_FOLDERS = ("conftest.py", "__init__.py")


def keep(file: Path, root: Path, folder: Path) -> None:
    """Copy a test's file into `folder`, and what it may import, each to where it lies below pytest's `root`.

    That is every module of its folder but other tests, and what makes each folder above it one of tests. Data that a
    test reads is not copied. Raises `OSError`.
    """
    if not file.is_relative_to(root):
        root = file.parent
    for one in _written_in(file, root):
        to = folder / one.relative_to(root)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one, to)


def _written_in(file: Path, root: Path) -> Iterator[Path]:
    yield file
    yield from (one for one in file.parent.glob("*.py") if not one.name.startswith("test_") and one != file)
    above = file.parent
    while above != root:
        above = above.parent
        yield from (above / name for name in _OF_FOLDERS if (above / name).is_file())
