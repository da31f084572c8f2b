# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch series from mails and folders, applied by git to a small tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.provision.kbuild import farm, series

LINES = [f"line {number}\n" for number in range(1, 41)]


def git(repository: Path, *words: str) -> None:
    identity = ["-c", "user.name=A Developer", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=repository, check=True, capture_output=True)


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def commit(repository: Path, subject: str, changes: dict[str, str | None]) -> None:
    for name, text in changes.items():
        if text is None:
            (repository / name).unlink()
        else:
            put(repository / name, text)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", subject)


def edited(*numbers: int) -> str:
    return "".join(f"changed {i}\n" if i in numbers else line for i, line in enumerate(LINES, 1))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Give a repository of a tree, tagged `base`, with three commits on top."""
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "-q")
    commit(made, "base", {"pci/iov.c": "".join(LINES), "pci/old.c": "old\n", "README": "read\n"})
    git(made, "tag", "base")
    commit(made, "PCI: Löse das erste", {"pci/iov.c": edited(3)})
    commit(made, "PCI: add a file, remove one", {"pci/siov.c": "siov\n", "pci/old.c": None, "pci/iov.c": edited(3, 30)})
    commit(made, "PCI: rename", {"pci/siov.c": None, "pci/scalable.c": "siov\n"})
    return made


@pytest.fixture
def tree(repository: Path, tmp_path: Path) -> Path:
    """Give the base alone, as a plain folder."""
    made = tmp_path / "tree"
    made.mkdir()
    archive = subprocess.run(["git", "archive", "base"], cwd=repository, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", made], input=archive, check=True)
    return made


def exported(repository: Path, to: Path, *options: str) -> Path:
    to.mkdir()
    git(repository, "format-patch", "-q", "-o", str(to), *options, "base")
    return to


def outcome(where: Path, tree: Path) -> dict[str, str | None]:
    with series.applied(series.read(where), tree, farm.files(tree)) as changed:
        return {name: copy.read_text(encoding="utf-8") if copy else None for name, copy in changed.items()}


EXPECTED = {"pci/iov.c": edited(3, 30), "pci/old.c": None, "pci/scalable.c": "siov\n"}


def test_numbered_patches_are_applied_in_their_order(repository: Path, tree: Path, tmp_path: Path) -> None:
    assert outcome(exported(repository, tmp_path / "out"), tree) == EXPECTED


def test_a_cover_letter_is_no_patch(repository: Path, tmp_path: Path) -> None:
    out = exported(repository, tmp_path / "out", "--cover-letter")
    assert len(list(out.iterdir())) == 4
    subjects = [patch.subject for patch in series.read(out)]
    assert subjects == ["PCI: Löse das erste", "PCI: add a file, remove one", "PCI: rename"]


def test_an_mbox_is_taken_apart(repository: Path, tree: Path, tmp_path: Path) -> None:
    mbox = tmp_path / "series.mbox"
    git(repository, "format-patch", "-q", "--cover-letter", "--stdout", "base")
    done = subprocess.run(["git", "format-patch", "--stdout", "base"], cwd=repository, check=True, capture_output=True)
    mbox.write_bytes(done.stdout)
    assert outcome(mbox, tree) == EXPECTED


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_a_mail_in_a_transfer_encoding_is_decoded(tmp_path: Path, tree: Path, encoding: str) -> None:
    import base64
    import quopri

    diff = "--- a/README\n+++ b/README\n@@ -1 +1 @@\n-read\n+größer\n".encode()
    body = base64.encodebytes(diff) if encoding == "base64" else quopri.encodestring(diff)
    head = (
        "From 0123 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: [PATCH] PCI: one\nMIME-Version: 1.0\n"
        f"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: {encoding}\n\n"
    )
    mail = tmp_path / "one.patch"
    mail.write_bytes(head.encode() + body)
    assert outcome(mail, tree) == {"README": "größer\n"}


def test_a_diff_without_a_mail_is_a_patch(tmp_path: Path, tree: Path) -> None:
    put(tmp_path / "out/fix.diff", "--- a/README\n+++ b/README\n@@ -1 +1 @@\n-read\n+write\n")
    assert outcome(tmp_path / "out", tree) == {"README": "write\n"}
    (patch,) = series.read(tmp_path / "out")
    assert str(patch) == "fix.diff"


def test_a_folder_with_quilts_list_is_read_as_that_says(repository: Path, tmp_path: Path) -> None:
    out = exported(repository, tmp_path / "out")
    names = sorted(file.name for file in out.iterdir())
    put(out / "series", f"# for 7.3\n{names[1]} -p1\n\n{names[0]}  # last\n")
    assert [patch.file.name for patch in series.read(out)] == [names[1], names[0]]


def test_what_does_not_apply_is_named_with_patch_file_and_hunk(repository: Path, tree: Path, tmp_path: Path) -> None:
    put(tree / "pci/iov.c", edited(31))
    with pytest.raises(UsageError) as caught:
        outcome(exported(repository, tmp_path / "out"), tree)
    assert str(caught.value) == (
        "patch 2 of 3, 0002-PCI-add-a-file-remove-one.patch (PCI: add a file, remove one), does not apply: "
        "pci/iov.c, hunk 1 (@@ -27,7 +27,7 @@ line 26)"
    )
    assert (tree / "pci/iov.c").read_text() == edited(31)


def test_the_second_of_two_hunks_is_told_from_the_first(tree: Path, tmp_path: Path) -> None:
    one = "--- a/pci/iov.c\n+++ b/pci/iov.c\n@@ -1,2 +1,2 @@\n-line 1\n+LINE 1\n line 2\n"
    put(tmp_path / "out/a.patch", one + "@@ -20,3 +20,3 @@\n line 20\n-line X\n+LINE 21\n line 22\n")
    with pytest.raises(UsageError, match=r"a\.patch, does not apply: pci/iov\.c, hunk 2 \(@@ -20,3 \+20,3 @@\)"):
        outcome(tmp_path / "out", tree)


def test_a_file_that_is_not_there_is_named(tree: Path, tmp_path: Path) -> None:
    put(tmp_path / "out/a.patch", "--- a/pci/no.c\n+++ b/pci/no.c\n@@ -1 +1 @@\n-a\n+b\n")
    with pytest.raises(UsageError, match=r"does not apply: pci/no\.c: No such file or directory"):
        outcome(tmp_path / "out", tree)


def test_a_damaged_patch_is_named(tree: Path, tmp_path: Path) -> None:
    put(tmp_path / "out/a.patch", "--- a/README\n+++ b/README\n@@ -1,9 +1,9 @@\n-read\n")
    with pytest.raises(UsageError, match=r"a\.patch, does not apply: corrupt patch at "):
        outcome(tmp_path / "out", tree)


def test_a_patch_reaches_nothing_outside_the_tree(tree: Path, tmp_path: Path) -> None:
    victim = put(tmp_path / "victim", "whole\n")
    put(tmp_path / "out/a.patch", "--- a/../victim\n+++ b/../victim\n@@ -1 +1 @@\n-whole\n+gone\n")
    with pytest.raises(UsageError, match=r"does not apply: \.\./victim: No such file"):
        outcome(tmp_path / "out", tree)
    assert victim.read_text() == "whole\n"


@pytest.mark.parametrize(
    ("diff", "expected"),
    [
        (
            "diff --git i/README w/README\n--- i/README\n+++ w/README\n@@ -1 +1 @@\n-read\n+write\n",
            {"README": "write\n"},
        ),
        ("--- linux.orig/README\n+++ linux/README\n@@ -1 +1 @@\n-read\n+write\n", {"README": "write\n"}),
        ("diff --git a/empty.h b/empty.h\nnew file mode 100644\nindex 0000000..e69de29\n", {"empty.h": ""}),
        ("diff --git a/README b/README\nold mode 100644\nnew mode 100755\n", {"README": "read\n"}),
        ("--- a/README\n+++ b/README\n@@ -1 +1,2 @@\n read\n+++ b/../../evil\n", {"README": "read\n++ b/../../evil\n"}),
    ],
    ids=["mnemonic prefix", "quilt's prefix", "empty file", "mode", "a line like a header"],
)
def test_what_git_applies_is_what_has_changed(
    tmp_path: Path, tree: Path, diff: str, expected: dict[str, str | None]
) -> None:
    put(tmp_path / "one.patch", diff)
    assert outcome(tmp_path / "one.patch", tree) == expected


def test_a_link_that_a_patch_makes_stays_a_link(tmp_path: Path, tree: Path) -> None:
    diff = "diff --git a/link b/link\nnew file mode 120000\nindex 0000000..1234567\n--- /dev/null\n+++ b/link\n"
    put(tmp_path / "one.patch", f"{diff}@@ -0,0 +1 @@\n+/etc/hostname\n\\ No newline at end of file\n")
    with series.applied(series.read(tmp_path / "one.patch"), tree, farm.files(tree)) as changed:
        (copy,) = changed.values()
        assert copy is not None
        assert str(copy.readlink()) == "/etc/hostname"


def test_a_mail_with_carriage_returns_is_read(tmp_path: Path, tree: Path) -> None:
    mail = "From: A <a@example.org>\nSubject: [PATCH] PCI: one\n\nText.\n---\n"
    diff = "--- a/README\n+++ b/README\n@@ -1 +1 @@\n-read\n+write\n"
    (tmp_path / "one.eml").write_bytes((mail + diff).replace("\n", "\r\n").encode())
    (patch,) = series.read(tmp_path / "one.eml")
    assert patch.subject == "PCI: one"
    assert outcome(tmp_path / "one.eml", tree) == {"README": "write\n"}


@pytest.mark.parametrize("options", ["-R", "-p0", "-p1 -R"])
def test_a_quilt_list_with_options_is_refused(tmp_path: Path, options: str) -> None:
    put(tmp_path / "out/series", f"a.patch {options}\n")
    with pytest.raises(UsageError, match=f"'a.patch {options}': patches are applied with -p1 and forwards only"):
        series.read(tmp_path / "out")


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.patch"
    with large.open("wb") as stream:
        stream.truncate(65 << 20)
    for path in (large, Path("/dev/zero")):
        with pytest.raises(UsageError, match=f"--series {path}: no file of patches, or one of more than 64 MiB"):
            series.read(path)


def test_a_quilt_list_that_is_no_text_is_told(tmp_path: Path) -> None:
    put(tmp_path / "out/a.patch", "--- a/README\n+++ b/README\n@@ -1 +1 @@\n-read\n+write\n")
    (tmp_path / "out/series").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UsageError, match="No such file or directory"):
        series.read(tmp_path / "out")


@pytest.mark.parametrize("kind", ["missing", "empty folder", "text", "empty file"])
def test_what_holds_no_patch_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    where = tmp_path / "given"
    if kind == "empty folder":
        where.mkdir()
    elif kind != "missing":
        where.write_text("no patch\n" if kind == "text" else "")
    with pytest.raises(UsageError) as caught:
        series.read(where)
    assert str(caught.value).startswith(f"--series {where}: ")
    assert "\n" not in str(caught.value)
