# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch series: read from mails or patches, and applied, as `git am` would, to copies of the files that it touches.

git itself takes mails and patches apart and applies them (mailsplit, mailinfo, apply), which needs no repository.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.text import printable

_SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")
_LARGEST = 64 * 1024 * 1024
"""Bytes of one file of a series: a device or a disk image given by mistake is not read into memory."""
_IS_DIFF = re.compile(rb"^(?:diff --git |--- \S)", re.MULTILINE)
_MOVED = re.compile(r'^(?:rename|copy) from "?(?P<name>[^"\n]+)', re.MULTILINE)
_HUNK = re.compile(r"^@@ -(?P<line>\d+)")
_FAILED = re.compile(r"^error: patch failed: (?P<file>.+):(?P<line>\d+)$", re.MULTILINE)
_ERROR = re.compile(r"^(?:error|fatal): (?P<why>.+)$", re.MULTILINE)


class DoesNotApply(UsageError):
    """A patch of a series does not apply to the tree and the patches before it; the text names it."""


@dataclass(frozen=True)
class Patch:
    """One patch: the file that it came in, its subject and its diff."""

    file: Path
    subject: str
    diff: bytes

    def __str__(self) -> str:
        return f"{self.file.name} ({self.subject})" if self.subject else self.file.name


def read(path: Path) -> list[Patch]:
    """Read a series: an mbox or a patch, or a folder of them in the order of their names, or of quilt's `series`.

    Mails without a diff, such as a cover letter, are left out. Raises `UsageError`.
    """
    try:
        patches = [patch for file in _files(path) for patch in _patches(file)]
    except FileNotFoundError as error:
        if error.filename != "git":
            raise UsageError(f"--series {path}: {error.filename}: {error.strerror}") from error
        raise UsageError("git is not on this machine, which takes patches apart: apt-get install git") from error
    except OSError as error:
        raise UsageError(f"--series {path}: {error.strerror}") from error
    if not patches:
        raise UsageError(f"--series {path}: no patch in it; expected an mbox, a patch, or a folder of numbered patches")
    return patches


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    listing = path / "series"
    if not listing.is_file():
        return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    text = listing.read_text(encoding="utf-8", errors="replace")
    lines = [words for line in text.splitlines() if (words := line.split("#")[0].split())]
    odd = next((words for words in lines if words[1:] not in ([], ["-p1"])), None)
    if odd is not None:
        raise UsageError(f"--series {listing}: {' '.join(odd)[:80]!r}: patches are applied with -p1 and forwards only")
    return [path / words[0] for words in lines]


def _patches(file: Path) -> Iterator[Patch]:
    if (not file.is_file() and file.exists()) or file.stat().st_size > _LARGEST:
        raise UsageError(f"--series {file}: no file of patches, or one of more than {_LARGEST >> 20} MiB")
    with tempfile.TemporaryDirectory(prefix="iov-harness-") as scratch:
        folder = Path(scratch)
        # -b: a file that does not begin as an mbox does is one mail, or one diff.
        done = _git("mailsplit", "-b", f"-o{folder}", str(file.absolute()), cwd=folder)
        if done.returncode != 0:
            raise UsageError(f"--series {file}: git takes no mails or patches from it: {_first_error(done.stderr)}")
        messages = [message.read_bytes() for message in sorted(folder.iterdir())]
        for message in messages:
            subject, diff = _taken_apart(message, folder)
            if _IS_DIFF.search(diff):
                yield Patch(file, subject, diff)


def _taken_apart(message: bytes, folder: Path) -> tuple[str, bytes]:
    """Give subject and diff of a mail; of what is no mail, all of it."""
    text, diff = folder / "message", folder / "diff"
    done = _git("mailinfo", "--encoding=UTF-8", str(text), str(diff), cwd=folder, given=message)
    subject = next((line[9:] for line in done.stdout.splitlines() if line.startswith("Subject: ")), "")
    if done.returncode != 0 or not subject:
        return "", message
    return printable(subject), diff.read_bytes()


@contextmanager
def applied(patches: Sequence[Patch], tree: Path, known: Container[str]) -> Iterator[Mapping[str, Path | None]]:
    """Apply the patches, in order, to copies of the files of `tree` that they touch; `known` are the tree's files.

    Gives every file that is then there with its copy, and those that are gone with None; the copies last as long as the
    block. Raises `DoesNotApply` for the first patch that does not, with file and hunk. The tree stays as it is.
    """
    with tempfile.TemporaryDirectory(prefix="iov-harness-") as scratch:
        folder = Path(scratch) / "tree"
        folder.mkdir()
        given: set[str] = set()
        for number, patch in enumerate(patches, 1):
            for name in _touched(patch, folder) - given:
                if name in known:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(tree / name, folder / name, follow_symlinks=False)
                given.add(name)
            done = _git("apply", "--whitespace=nowarn", cwd=folder, given=patch.diff)
            if done.returncode != 0:
                place = _place(patch, done.stderr)
                raise DoesNotApply(f"patch {number} of {len(patches)}, {patch}, does not apply: {place}")
        left = {
            str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_symlink() or path.is_file()
        }
        yield {**{name: None for name in given if name in known}, **left}


def files(patch: Patch) -> set[str]:
    """Give the files that a patch touches, by their names before and after it."""
    with tempfile.TemporaryDirectory(prefix="iov-harness-") as scratch:
        return _touched(patch, Path(scratch))


def _touched(patch: Patch, folder: Path) -> set[str]:
    """Give the files that a patch reads or writes, as git itself reads it; none for a patch that it cannot read."""
    listed = _git("apply", "--numstat", "-z", cwd=folder, given=patch.diff).stdout
    named = {entry.split("\t", 2)[2] for entry in listed.split("\0") if entry.count("\t") >= 2}
    moved = {match["name"] for match in _MOVED.finditer(patch.diff.decode("utf-8", errors="replace"))}
    return {name for name in named | moved if ".." not in Path(name).parts and not Path(name).is_absolute()}


def _place(patch: Patch, complaint: str) -> str:
    """Say which file and hunk git stumbled over."""
    failed = _FAILED.search(complaint)
    if failed is None:
        return _first_error(complaint)
    file, line = failed["file"], int(failed["line"])
    inside, number = False, 0
    for text in patch.diff.decode("utf-8", errors="replace").splitlines():
        if text.startswith("+++ "):
            inside, number = text.partition("/")[2].split("\t")[0] == file, 0
        elif inside and (hunk := _HUNK.match(text)):
            number += 1
            if int(hunk["line"]) == line:
                return f"{file}, hunk {number} ({printable(text)})"
    return f"{file}, the hunk at line {line}"


def _first_error(complaint: str) -> str:
    found = _ERROR.search(complaint)
    return printable(found["why"]) if found else "git gives no reason"


def _git(*words: str, cwd: Path, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    # No repository that the scratch folder may lie in, and none of the user's settings, has a say.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CEILING_DIRECTORIES": str(cwd.parent),
    }  # fmt: skip
    with tempfile.TemporaryFile() as stream:
        stream.write(given)
        stream.seek(0)
        return subprocess.run(
            ["git", *words], cwd=cwd, env=environment, stdin=stream, capture_output=True, text=True, errors="replace",
            check=False,
        )  # fmt: skip
