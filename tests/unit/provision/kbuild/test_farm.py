# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree that is built from: links to the source, real files for what a series changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import CouldNotRun, UsageError
from harness.provision.kbuild import farm
from harness.provision.kbuild.farm import Farm


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
    Farm(tmp_path / "farm").lay(tree, farm.files(tree), {})
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
    Farm(laid).lay(tree, farm.files(tree), changed)


def test_every_file_is_a_link(tree: Path, laid: Path) -> None:
    assert (laid / "drivers/pci/iov.c").is_symlink()
    assert (laid / "drivers/pci/iov.c").resolve() == tree / "drivers/pci/iov.c"
    assert not (laid / "drivers/pci").is_symlink()
    assert os.access(laid / "scripts/run.sh", os.X_OK)
    assert sorted(path.name for path in (laid / "dts").iterdir()) == ["iov.c"]
    assert (laid / "scripts/again.c").read_text() == "drivers/pci/iov.c\n"


def test_a_source_that_has_moved_is_followed(tree: Path, laid: Path, tmp_path: Path) -> None:
    moved = tree.rename(tmp_path / "elsewhere")
    Farm(laid).lay(moved, farm.files(moved), {})
    assert (laid / "drivers/pci/iov.c").read_text() == "drivers/pci/iov.c\n"


def test_a_change_in_the_source_is_seen_at_once(tree: Path, laid: Path) -> None:
    (tree / "drivers/pci/iov.c").write_text("edited\n")
    assert (laid / "drivers/pci/iov.c").read_text() == "edited\n"


def test_files_that_come_and_go_do_so_in_the_farm(tree: Path, laid: Path) -> None:
    (tree / "drivers/pci/siov.c").write_text("new\n")
    (tree / "scripts/run.sh").unlink()
    Farm(laid).lay(tree, farm.files(tree), {})
    assert (laid / "drivers/pci/siov.c").read_text() == "new\n"
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
    assert (laid / "drivers/pci/iov.c").read_text() == "drivers/pci/iov.c\n"


@pytest.mark.parametrize("between", ["patched\n", None])
def test_what_comes_back_is_newer_than_what_was_built_without_it(tree: Path, laid: Path, between: str | None) -> None:
    os.utime(tree / "drivers/pci/iov.c", (1000, 1000))
    lay_changed(tree, laid, iov="patched\n")
    lay_changed(tree, laid, iov=None)
    lay_changed(tree, laid, iov=between)
    lay_changed(tree, laid)
    assert (laid / "drivers/pci/iov.c").read_text() == "drivers/pci/iov.c\n"
    assert (laid / "drivers/pci/iov.c").stat().st_mtime > 1000


def test_a_file_that_was_replaced_by_an_old_one_is_newer_than_what_was_built(tree: Path, laid: Path) -> None:
    (tree / "new").write_text("another release\n")
    os.utime(tree / "new", (1000, 1000))
    (tree / "new").rename(tree / "drivers/pci/iov.c")
    Farm(laid).lay(tree, farm.files(tree), {})
    assert (laid / "drivers/pci/iov.c").read_text() == "another release\n"
    assert (laid / "drivers/pci/iov.c").stat().st_mtime > 1000


def test_what_did_not_change_stays_as_it_was(tree: Path, laid: Path) -> None:
    before = (laid / "drivers/pci/iov.c").lstat().st_mtime_ns
    Farm(laid).lay(tree, farm.files(tree), {})
    assert (laid / "drivers/pci/iov.c").lstat().st_mtime_ns == before
    assert (laid / "drivers/pci/iov.c").is_symlink()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"Makefile": 1}'])
def test_a_memory_that_is_damaged_is_none(tree: Path, laid: Path, damage: str) -> None:
    (laid.parent / "farm.json").write_text(damage)
    Farm(laid).lay(tree, farm.files(tree), {})
    assert (laid / "drivers/pci/iov.c").read_text() == "drivers/pci/iov.c\n"


def test_a_folder_that_became_a_file_is_one(tree: Path, laid: Path) -> None:
    shutil.rmtree(tree / "drivers/pci")
    (tree / "drivers/pci").write_text("a file\n")
    (tree / "scripts/again.c").unlink()
    (tree / "dts").unlink()
    Farm(laid).lay(tree, farm.files(tree), {})
    assert (laid / "drivers/pci").read_text() == "a file\n"


def test_a_link_of_the_source_leads_to_the_changed_file(tree: Path, laid: Path) -> None:
    lay_changed(tree, laid, iov="patched\n")
    assert (laid / "scripts/again.c").read_text() == "patched\n"
    assert (laid / "dts/iov.c").read_text() == "patched\n"


@pytest.mark.parametrize("name", [".source/Makefile", "dts/evil.c"])
def test_a_change_beyond_a_link_is_refused(tree: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"the series changes {name}, which is beyond a symbolic link"):
        farm.check(farm.files(tree), ["drivers/pci/iov.c", name], tree)


def test_a_new_mode_is_a_change(tree: Path, laid: Path) -> None:
    lay_changed(tree, laid, iov="patched\n")
    (laid.parent / "copy-iov").chmod(0o755)
    Farm(laid).lay(tree, farm.files(tree), {"drivers/pci/iov.c": laid.parent / "copy-iov"})
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
