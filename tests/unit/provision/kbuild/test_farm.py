# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree that is built from: links to the source, real files for what a series changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.errors import CouldNotRun
from harness.provision.kbuild import farm


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a source with a script, a link to a folder and one to a file."""
    made = tmp_path / "source"
    for name in ("Makefile", "drivers/pci/iov.c", "scripts/run.sh"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(f"{name}\n")
    (made / "scripts/run.sh").chmod(0o755)
    (made / "dts").symlink_to("drivers/pci")
    (made / "scripts/again.c").symlink_to("../drivers/pci/iov.c")
    return made


@pytest.fixture
def laid(tree: Path, tmp_path: Path) -> Path:
    """Give a farm of it, without a change."""
    farm.lay(tmp_path / "farm", tree, farm.files(tree), {})
    return tmp_path / "farm"


def lay_changed(tree: Path, laid: Path, **texts: str | None) -> None:
    """Lay the farm with `iov` in a new form, gone (None), or as it is (not given), and `new` as a new file."""
    changed: dict[str, Path | None] = {}
    for name, text in texts.items():
        copy = laid.parent / f"copy-{name}"
        path = {"iov": "drivers/pci/iov.c", "new": "drivers/pci/deep/new.c"}[name]
        changed[path] = copy if text is not None else None
        if text is not None:
            copy.write_text(text)
    farm.lay(laid, tree, farm.files(tree), changed)


def test_every_file_is_a_link(tree: Path, laid: Path) -> None:
    assert (laid / "drivers/pci/iov.c").readlink() == tree / "drivers/pci/iov.c"
    assert not (laid / "drivers/pci").is_symlink()
    assert os.access(laid / "scripts/run.sh", os.X_OK)
    assert sorted(path.name for path in (laid / "dts").iterdir()) == ["iov.c"]
    assert (laid / "scripts/again.c").read_text() == "drivers/pci/iov.c\n"


def test_a_change_in_the_source_is_seen_at_once(tree: Path, laid: Path) -> None:
    (tree / "drivers/pci/iov.c").write_text("edited\n")
    assert (laid / "drivers/pci/iov.c").read_text() == "edited\n"


def test_files_that_come_and_go_do_so_in_the_farm(tree: Path, laid: Path) -> None:
    (tree / "drivers/pci/siov.c").write_text("new\n")
    (tree / "scripts/run.sh").unlink()
    farm.lay(laid, tree, farm.files(tree), {})
    assert (laid / "drivers/pci/siov.c").is_symlink()
    assert not (laid / "scripts/run.sh").is_symlink()


def test_what_is_changed_is_a_real_file_and_the_source_stays(tree: Path, laid: Path) -> None:
    lay_changed(tree, laid, iov="patched\n", new="new\n")
    assert not (laid / "drivers/pci/iov.c").is_symlink()
    assert (laid / "drivers/pci/iov.c").read_text() == "patched\n"
    assert (laid / "drivers/pci/deep/new.c").read_text() == "new\n"
    assert (tree / "drivers/pci/iov.c").read_text() == "drivers/pci/iov.c\n"
    assert not (tree / "drivers/pci/deep").exists()


def test_what_is_no_longer_changed_is_as_the_source_and_newer_than_what_was_built(tree: Path, laid: Path) -> None:
    os.utime(tree / "drivers/pci/iov.c", (1000, 1000))
    lay_changed(tree, laid, iov="patched\n", new="new\n")
    built = (laid / "drivers/pci/iov.c").stat().st_mtime_ns
    lay_changed(tree, laid)
    assert (laid / "drivers/pci/iov.c").read_text() == "drivers/pci/iov.c\n"
    assert (laid / "drivers/pci/iov.c").stat().st_mtime_ns >= built
    assert not (laid / "drivers/pci/deep/new.c").exists()


def test_what_stays_changed_in_the_same_way_is_not_written_again(tree: Path, laid: Path) -> None:
    lay_changed(tree, laid, iov="patched\n")
    os.utime(laid / "drivers/pci/iov.c", (1000, 1000))
    lay_changed(tree, laid, iov="patched\n")
    assert (laid / "drivers/pci/iov.c").stat().st_mtime == 1000
    lay_changed(tree, laid, iov="patched again\n")
    assert (laid / "drivers/pci/iov.c").stat().st_mtime > 1000


def test_an_edit_of_the_source_reaches_a_file_that_was_changed_once(tree: Path, laid: Path) -> None:
    lay_changed(tree, laid, iov="patched\n")
    lay_changed(tree, laid)
    (tree / "drivers/pci/iov.c").write_text("edited\n")
    lay_changed(tree, laid)
    assert (laid / "drivers/pci/iov.c").read_text() == "edited\n"


def test_what_a_series_removes_is_gone_and_comes_back(tree: Path, laid: Path) -> None:
    lay_changed(tree, laid, iov=None)
    assert not (laid / "drivers/pci/iov.c").is_symlink()
    lay_changed(tree, laid)
    assert (laid / "drivers/pci/iov.c").is_symlink()


def test_a_new_mode_is_a_change(tree: Path, laid: Path) -> None:
    lay_changed(tree, laid, iov="patched\n")
    (laid.parent / "copy-iov").chmod(0o755)
    farm.lay(laid, tree, farm.files(tree), {"drivers/pci/iov.c": laid.parent / "copy-iov"})
    assert os.access(laid / "drivers/pci/iov.c", os.X_OK)


def test_a_git_trees_files_are_those_that_git_tracks_or_would(tree: Path) -> None:
    for words in (["init", "-q"], ["add", "Makefile", "drivers", "scripts"]):
        subprocess.run(["git", "-C", tree, *words], check=True)
    (tree / ".gitignore").write_text("*.o\n")
    (tree / "drivers/pci/iov.o").write_text("object")
    (tree / "drivers/pci/siov.c").write_text("not yet added\n")
    (tree / "scripts/run.sh").unlink()
    assert farm.files(tree) == {
        ".gitignore", "Makefile", "dts", "drivers/pci/iov.c", "drivers/pci/siov.c", "scripts/again.c",
    }  # fmt: skip


def test_a_broken_git_tree_is_told(tree: Path) -> None:
    (tree / ".git").write_text("gitdir: nowhere\n")
    with pytest.raises(CouldNotRun, match="git does not list its files: fatal: not a git repository"):
        farm.files(tree)


@pytest.mark.parametrize("left", [".config", "include/config/auto.conf", "include/generated/autoconf.h"])
def test_a_plain_tree_that_was_built_in_is_known(tree: Path, left: str) -> None:
    assert farm.dirt(tree) is None
    (tree / left).parent.mkdir(parents=True, exist_ok=True)
    (tree / left).write_text("")
    assert farm.dirt(tree) in left
