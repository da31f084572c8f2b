# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a run writes: `build/runs/RUN/TEST/`, each test's folder its own."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from harness import paths
from harness.errors import CouldNotRun, Stage

_NAME_LIMIT = 100
"""Characters of a test's folder name; file names end at 255 bytes (NAME_MAX), and people read them."""
_runs = itertools.count(1)


def new_run() -> Path:
    """Make the folder of a new run, and point `build/runs/latest` to it. Raises `CouldNotRun`."""
    return make_run(planned_run())


def planned_run() -> Path:
    """Name the folder of a new run, without making it."""
    number = next(_runs)
    suffix = f".{number}" if number > 1 else ""
    return paths.output() / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}{suffix}"


def make_run(run: Path) -> Path:
    """Make the folder of a planned run, where another process has not yet; raises as `new_run`."""
    with told(run.parent):
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            return run
    if run.parent == paths.output() / "runs":  # a place of the caller's own choice is not ours to put links into
        point_latest_to(run)
    return run


def point_latest_to(folder: Path) -> None:
    """Have the link `latest` beside a folder lead to it."""
    with contextlib.suppress(OSError):  # two that start at once: either is the latest
        draft = folder.with_name(f".latest-{os.getpid()}")
        draft.symlink_to(folder.name)
        draft.replace(folder.with_name("latest"))


def forget(run: Path) -> None:
    """Remove a run's folder in which nothing was written, and what else was made for it."""
    with contextlib.suppress(OSError):  # something lies there, so it stays
        run.rmdir()
        latest = run.with_name("latest")
        if latest.is_symlink() and not latest.exists():
            latest.unlink()
        run.parent.rmdir()
        run.parent.parent.rmdir()


def folder_for(run: Path, name: str) -> Path:
    """Make the folder for one test (or one machine) of a run, named after it, unique."""
    folder = run / slug(name)
    with told(run):
        for number in range(2, 1000):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                folder = run / f"{slug(name)}.{number}"
            else:
                return folder
    raise CouldNotRun(f"output folder {run} already holds a thousand runs of {name}", stage=Stage.QEMU)


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Raise what keeps the block from writing below `folder` as `CouldNotRun`."""
    try:
        yield
    except OSError as error:
        raise CouldNotRun(f"output folder {folder} cannot be written: {error.strerror}", stage=Stage.QEMU) from error


def slug(name: str) -> str:
    """Give a name that any file system takes; a long one is cut, and told apart by a hash."""
    clean = re.sub(r"[^A-Za-z0-9_.=-]+", "-", name.removeprefix("tests/").replace("::", ".")).strip("-.") or "unnamed"
    if len(clean) <= _NAME_LIMIT:
        return clean
    return f"{clean[:_NAME_LIMIT]}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
