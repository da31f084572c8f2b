# SPDX-License-Identifier: GPL-2.0-or-later
"""A private folder per running machine for its sockets, and the sweeping of what dead runs left.

A folder belongs to whoever holds a lock on it. A run that was killed holds none any more: the next run that makes a
folder removes it, and ends a QEMU that is still there. A lock on the parent keeps makers and sweepers apart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from harness import paths
from harness.errors import CouldNotRun, Stage

_PID = "qemu.pid"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def private_folder() -> Iterator[Path]:
    """Give a folder that only this user can enter; it is removed at the end. Raises `CouldNotRun`."""
    root = _root()
    with _flock(root, fcntl.LOCK_EX):
        _sweep(root)
        folder = Path(tempfile.mkdtemp(dir=root))  # mode 0700
        lock = os.open(folder, _OPEN)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def note_pid(folder: Path, pid: int) -> None:
    """Write down which QEMU uses the folder, with its start time, so that a sweep ends no other process."""
    with suppress(psutil.NoSuchProcess):  # it has ended already
        (folder / _PID).write_text(f"{pid} {psutil.Process(pid).create_time()}\n", encoding="ascii")


def sweep() -> list[Path]:
    """Remove the folders of dead runs and end their QEMUs; gives those folders."""
    root = _root()
    with _flock(root, fcntl.LOCK_EX):
        return _sweep(root)


def abandoned() -> list[Path]:
    """Give the folders whose owner is no more."""
    root = _root()
    with _flock(root, fcntl.LOCK_EX):
        return [folder for folder in root.iterdir() if folder.is_dir() and not _is_owned(folder)]


def _is_owned(folder: Path) -> bool:
    try:
        with _flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
    except (BlockingIOError, FileNotFoundError):
        return True


def _sweep(root: Path) -> list[Path]:
    swept = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            with _flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _end_qemu(folder)
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # its owner lives, or has just removed it
    return swept


@contextmanager
def _flock(folder: Path, how: int) -> Iterator[None]:
    lock = os.open(folder, _OPEN)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)


def _root() -> Path:
    root = paths.runtime()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.lstat()
    except OSError as error:
        raise CouldNotRun(f"folder for sockets {root}: {error.strerror}", stage=Stage.QEMU) from error
    if stat.S_ISLNK(status.st_mode):  # anybody may have made it, and a sweep would empty what it leads to
        raise CouldNotRun(f"folder for sockets {root} is a symbolic link; remove it", stage=Stage.QEMU)
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise CouldNotRun(f"folder for sockets {root} belongs to or is open to others; remove it", stage=Stage.QEMU)
    return root


def _end_qemu(folder: Path) -> None:
    try:
        pid, created = (folder / _PID).read_text(encoding="ascii").split()
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(created)) < 1:
            process.kill()
    except (OSError, ValueError, psutil.Error):
        return  # it never started, or it is gone
