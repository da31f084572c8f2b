# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files are kept of a test that went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.pytest_plugin.sources import keep

FILES = (
    "conftest.py", "other.py", "a/conftest.py", "a/other.py", "a/b/__init__.py", "a/b/conftest.py", "a/b/helper.py",
    "a/b/test_it.py", "a/b/test_other.py", "a/b/more_test.py", "a/b/data.json", "a/b/c/deep.py",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "root"


def kept(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def test_a_test_is_kept_with_what_it_may_import(root: Path, tmp_path: Path) -> None:
    keep(root / "a/b/test_it.py", root, tmp_path / "kept")
    beside = {"a/b/__init__.py", "a/b/conftest.py", "a/b/helper.py", "a/b/test_it.py"}
    above = {"conftest.py", "other.py", "a/conftest.py", "a/other.py"}
    assert kept(tmp_path / "kept") == {*above, *beside}
    assert (tmp_path / "kept/a/b/helper.py").read_text() == "a/b/helper.py"


def test_nothing_above_the_root_is_kept(root: Path, tmp_path: Path) -> None:
    keep(root / "a/b/test_it.py", root / "a", tmp_path / "kept")
    beside = {"b/__init__.py", "b/conftest.py", "b/helper.py", "b/test_it.py"}
    assert kept(tmp_path / "kept") == {"conftest.py", "other.py", *beside}


def test_above_it_only_what_makes_folders_ones_of_tests_is_kept(root: Path, tmp_path: Path) -> None:
    (root / "a/conftest.py").unlink()
    (root / "a/__init__.py").touch()
    keep(root / "a/b/test_it.py", root / "a", tmp_path / "kept")
    assert kept(tmp_path / "kept") - {"b/__init__.py", "b/conftest.py", "b/helper.py", "b/test_it.py"} == {
        "__init__.py"
    }


def test_a_test_that_lies_elsewhere_is_kept_with_its_folder(root: Path, tmp_path: Path) -> None:
    keep(root / "a/b/test_it.py", tmp_path / "elsewhere", tmp_path / "kept")
    assert kept(tmp_path / "kept") == {"__init__.py", "conftest.py", "helper.py", "test_it.py"}
