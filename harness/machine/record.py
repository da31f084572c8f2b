# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a run writes: `build/runs/RUN/TEST/`, each test's folder its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

from harness import paths
from harness.errors import CouldNotRun, Stage

_NAME_LIMIT = 100
"""Characters of a test's folder name; file names end at 255 bytes (NAME_MAX), and people read them."""


def new_run() -> Path:
    """Make the folder of a new run, and point `build/runs/latest` to it. Raises `CouldNotRun`."""
    runs = paths.output() / "runs"
    run = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        run.mkdir(parents=True)
        with contextlib.suppress(OSError):  # two runs that start at once: either is the latest
            draft = runs / f".latest-{os.getpid()}"
            draft.symlink_to(run.name)
            draft.replace(runs / "latest")
    except OSError as error:
        raise CouldNotRun(f"output folder {runs} cannot be written: {error.strerror}", stage=Stage.QEMU) from error
    return run


def folder_for(run: Path, name: str) -> Path:
    """Make the folder for one test (or one machine) of a run, named after it, unique."""
    folder = run / slug(name)
    for number in range(2, 1000):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            folder = run / f"{slug(name)}.{number}"
        except OSError as error:
            raise CouldNotRun(f"output folder {run} cannot be written: {error.strerror}", stage=Stage.QEMU) from error
        else:
            return folder
    raise CouldNotRun(f"output folder {run} already holds a thousand runs of {name}", stage=Stage.QEMU)


def slug(name: str) -> str:
    """Give a name that any file system takes; a long one is cut, and told apart by a hash."""
    clean = re.sub(r"[^A-Za-z0-9_.=-]+", "-", name.removeprefix("tests/").replace("::", ".")).strip("-.") or "unnamed"
    if len(clean) <= _NAME_LIMIT:
        return clean
    return f"{clean[:_NAME_LIMIT]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
