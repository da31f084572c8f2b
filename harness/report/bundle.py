# SPDX-License-Identifier: GPL-2.0-or-later
"""A failure bundle: the folder of one test's records, with all that another machine needs to see the same again.

As a file it is a `.tar.zst` with one folder in it. `bundle.json` there says what the folder itself does not: which
kernel and which other files lie beside the records.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Literal

import zstandard
from pydantic import BaseModel, Field, ValidationError

from harness.errors import CouldNotRun, UsageError
from harness.outcome import OUTCOME_FILE, Verdict
from harness.report.unpacking import unpack

SUFFIX = ".tar.zst"
_CONTENTS = "bundle.json"


class Contents(BaseModel):
    """`bundle.json`; names are of files in the bundle."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    kernel_content: str = ""
    """What tells the kernel's image from others of its name."""
    image: str | None = None

    model_config = {"populate_by_name": True}


class Bundle:
    """A bundle that is open: a folder of the run's, or an unpacked file."""

    def __init__(self, folder: Path) -> None:
        """Raises `UsageError` for a folder that holds no test's record."""
        self.folder = folder
        try:
            self.verdict = Verdict.load(folder)
            told = folder / _CONTENTS
            self.contents = Contents.model_validate_json(told.read_bytes()) if told.is_file() else Contents()
        except FileNotFoundError as error:
            raise UsageError(
                f"{folder}: no record of a test there ({OUTCOME_FILE}); give build/runs/RUN/TEST"
            ) from error
        except (OSError, ValidationError, ValueError) as error:
            what = str(error).partition("\n")[0]
            raise UsageError(f"{folder} is no record of this version: {what}") from error

    @property
    def image(self) -> Path | None:
        """The kernel's image, where the bundle has it."""
        return self._within(self.contents.image)

    def _within(self, name: str | None) -> Path | None:
        """Give a file by its name in the bundle; a name that leads out of it is none."""
        if name is None or ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            return None
        path = self.folder / name
        return path if path.is_file() and not path.is_symlink() else None


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """Open a folder of records, or a bundle's file, unpacked as long as the block lasts. Raises `UsageError`."""
    if path.is_dir():
        yield Bundle(path.resolve())
        return
    with TemporaryDirectory(prefix="iov-harness-bundle-") as scratch:
        yield Bundle(_unpacked(path, Path(scratch)))


def pack(folder: Path, more: Mapping[str, Path], contents: Contents, to: Path) -> None:
    """Write a bundle of a test's folder, with `more` files by their names in it, whole or not at all.

    Raises `CouldNotRun` where it cannot be written.
    """
    draft = to.with_name(f".{to.name}.tmp")
    name = folder.name
    try:
        with (
            zstandard.open(draft, "wb", zstandard.ZstdCompressor(level=10)) as stream,
            tarfile.open(fileobj=stream, mode="w|") as archive,
        ):
            own = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
            for inside, file in sorted(own.items()):
                if inside not in {_CONTENTS, *more}:
                    archive.add(file, f"{name}/{inside}", filter=_anonymous)
            for inside, file in sorted(more.items()):
                archive.add(file.resolve(), f"{name}/{inside}", filter=_anonymous)
            _add_text(archive, f"{name}/{_CONTENTS}", contents.model_dump_json(by_alias=True, indent=1))
        draft.replace(to)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CouldNotRun(f"bundle {to} cannot be written: {error.strerror}") from error


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who packed it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _unpacked(path: Path, scratch: Path) -> Path:
    try:
        with path.open("rb") as packed:
            unpack(packed, scratch, f"bundle {path}")
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}; give build/runs/RUN/TEST, or a file that `harness repro --pack` made"
        ) from error
    folders = [one for one in scratch.iterdir() if one.is_dir()]
    if len(folders) != 1:
        raise UsageError(f"{path} is no bundle: expected one folder in it, not {len(folders)}")
    return folders[0]
