# SPDX-License-Identifier: GPL-2.0-or-later
"""A series taken apart: from files, from a range of commits, on the right base."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.provision.cache import Cache
from harness.validate.steps import Series, read

Take = Callable[..., Series]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git tree with three commits of which each changes a line of one file."""
    made = tmp_path / "linux"
    made.mkdir()
    git(made, "init", "-q", "-b", "master")
    for number in range(1, 4):
        (made / "iov.c").write_text(f"int number = {number};\n")
        (made / "Makefile").write_text("all:\n")
        git(made, "add", ".")
        git(made, "commit", "-q", "-m", f"PCI/IOV: Make it {number}")
    return made


def git(tree: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=tree, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def taken(tmp_path: Path, tree: Path) -> Take:
    def take(given: str, base: str | None = None, source: str | None = None) -> Series:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return read(Cache(tmp_path / "cache"), source or str(tree), given, base, scratch)

    return take


def test_a_range_of_commits_is_steps_on_what_it_begins_after(taken: Take, tree: Path) -> None:
    found = taken("HEAD~2..HEAD")
    assert [one.title for one in found.steps] == ["base", "1: PCI/IOV: Make it 2", "2: PCI/IOV: Make it 3"]
    assert [one.files for one in found.steps] == [(), ("iov.c",), ("iov.c",)]
    assert [len(one.order.series) for one in found.steps] == [0, 1, 2]
    base = Path(found.steps[0].order.source)
    assert (base / "iov.c").read_text() == "int number = 1;\n"
    assert base != tree


def test_patches_are_for_the_tree_as_it_stands_or_for_a_base(taken: Take, tree: Path, tmp_path: Path) -> None:
    mbox = tmp_path / "s.mbox"
    mbox.write_text(git(tree, "format-patch", "--stdout", "-1") + "\n")
    assert taken(str(mbox)).steps[0].order.source == str(tree)
    based = Path(taken(str(mbox), base="HEAD~1").steps[0].order.source)
    assert (based / "iov.c").read_text() == "int number = 2;\n"


def test_the_base_commit_of_the_cover_letter_is_honoured(taken: Take, tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    git(tree, "format-patch", "-q", "--cover-letter", "--base", "HEAD~1", "-1", "-o", str(folder))
    found = taken(str(folder))
    assert (Path(found.steps[0].order.source) / "iov.c").read_text() == "int number = 2;\n"
    assert not found.note


def test_a_base_commit_that_is_not_there_is_told(taken: Take, tree: Path, tmp_path: Path) -> None:
    mbox = tmp_path / "s.mbox"
    mbox.write_text(git(tree, "format-patch", "--stdout", "-1") + f"\nbase-commit: {'0' * 39}1\n")
    found = taken(str(mbox))
    assert found.steps[0].order.source == str(tree)
    assert f"for commit {'0' * 39}1, which {tree} does not have" in found.note


def test_another_patch_or_tree_is_another_series(taken: Take) -> None:
    keys = {taken("HEAD~2..HEAD").key, taken("HEAD~1..HEAD").key, taken("HEAD~2..HEAD~1").key}
    assert len(keys) == 3
    assert taken("HEAD~2..HEAD").key in keys


def test_series_that_begin_alike_have_their_first_steps_in_common(taken: Take) -> None:
    longer, shorter = (taken(given, base="HEAD~2").steps for given in ("HEAD~2..HEAD", "HEAD~2..HEAD~1"))
    assert [one.key for one in longer[:2]] == [one.key for one in shorter]
    assert longer[2].key not in {one.key for one in shorter}


@pytest.mark.parametrize(
    ("given", "base", "source", "why"),
    [
        ("nowhere.mbox", None, None, "--series nowhere.mbox: .*No such file"),
        ("nothing..HEAD", None, None, "--series nothing..HEAD: git finds no such commits in "),
        ("HEAD~2...HEAD", None, None, "write FIRST..LAST, with two dots"),
        ("HEAD..HEAD", None, None, "--series HEAD..HEAD: there is no commit in that range"),
        ("a..b", None, "debian:7.3", "a range of commits needs a git tree for --source, not debian:7.3"),
        ("HEAD~1..HEAD", "nothing", None, "--base nothing: git has no such commit"),
        ("HEAD~1..HEAD", "--output=x", None, "--base --output=x: git has no such commit"),
    ],
)
def test_what_cannot_be_taken_apart_is_named(
    taken: Take, given: str, base: str | None, source: str | None, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        taken(given, base, source)


def test_a_topic_is_for_what_it_forked_from(taken: Take, tree: Path) -> None:
    git(tree, "checkout", "-q", "-b", "topic", "HEAD~1")
    (tree / "other.c").write_text("int other;\n")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "PCI: Other")
    found = taken("master..topic")
    assert [one.title for one in found.steps] == ["base", "1: PCI: Other"]
    assert (Path(found.steps[0].order.source) / "iov.c").read_text() == "int number = 2;\n"
    git(tree, "merge", "-q", "--no-edit", "master")
    with pytest.raises(UsageError, match="there are merges in that range"):
        taken("master~2..topic")


def test_a_commit_comes_from_whichever_clone(taken: Take, tree: Path, tmp_path: Path) -> None:
    git(tree, "clone", "-q", str(tree), str(tmp_path / "linux-next"))
    one, other = taken("HEAD~1..HEAD"), taken("HEAD~1..HEAD", source=str(tmp_path / "linux-next"))
    assert one.steps[0].order.source == other.steps[0].order.source
    assert Path(other.steps[0].order.source).is_dir()
