# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test is written in: its own file, and those that pytest finds beside and above it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

_TESTS = ("test_*.py", "*_test.py")
"""pytest's own `python_files`."""


def keep(file: Path, root: Path, folder: Path) -> None:
    """Copy a test's file into `folder`, and what it may import, each to where it lies below pytest's `root`.

    That is every module, but other tests, of its folder and of those above that have a conftest.py. Data that a test
    reads is not copied. Raises `OSError`.
    """
    if not file.is_relative_to(root):
        root = file.parent
    for one in _written_in(file, root):
        to = folder / one.relative_to(root)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one, to)


def _written_in(file: Path, root: Path) -> Iterator[Path]:
    yield file
    for folder in (file.parent, *file.parent.parents):
        if folder == file.parent or (folder / "conftest.py").is_file():
            yield from (one for one in folder.glob("*.py") if one != file and not any(map(one.match, _TESTS)))
        elif (folder / "__init__.py").is_file():
            yield folder / "__init__.py"
        if folder == root:
            return
