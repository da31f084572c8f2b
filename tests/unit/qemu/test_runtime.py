# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders for sockets: private, removed at the end, and swept with their QEMU where their owner died."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import paths
from harness.errors import CouldNotRun, Stage
from harness.qemu.runtime import note_pid, private_folder, sweep

PID = "qemu.pid"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the place of all folders, which is not made yet."""
    monkeypatch.setattr(paths, "runtime", lambda: tmp_path / "sockets")
    return tmp_path / "sockets"


@pytest.fixture
def qemu() -> Iterator[subprocess.Popen[bytes]]:
    """Start something that a sweep may end."""
    with subprocess.Popen(["sleep", "600"]) as made:
        yield made
        made.kill()


def dead(root: Path, name: str = "dead") -> Path:
    """Make the folder of a run that is gone."""
    folder = root / name
    root.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir()
    (folder / "qmp.sock").touch()
    return folder


def test_a_folder_is_its_users_own_and_goes_with_the_block(root: Path) -> None:
    with private_folder() as folder:
        assert folder.parent == root
        assert [path.stat().st_mode & 0o777 for path in (root, folder)] == [0o700, 0o700]
        (folder / "qmp.sock").touch()
    assert not list(root.iterdir())


def test_a_folder_goes_with_a_block_that_fails(root: Path) -> None:
    with pytest.raises(ZeroDivisionError), private_folder():
        _ = 1 / 0
    assert not list(root.iterdir())


@pytest.mark.usefixtures("root")
def test_a_folder_in_use_is_never_swept() -> None:
    with private_folder() as first, private_folder() as second:
        assert sweep() == []
        assert first.is_dir()
        assert second.is_dir()
        assert first != second


def test_the_folder_of_a_dead_run_is_swept_by_the_next_one(root: Path) -> None:
    folder = dead(root)
    with private_folder() as mine:
        assert list(root.iterdir()) == [mine]
    assert not folder.exists()


def test_a_sweep_tells_what_it_removed_and_leaves_files_alone(root: Path) -> None:
    folders = [dead(root, "a"), dead(root, "b")]
    (root / "note").touch()
    assert sweep() == folders
    assert [path.name for path in root.iterdir()] == ["note"]


def test_the_qemu_of_a_dead_run_is_ended(root: Path, qemu: subprocess.Popen[bytes]) -> None:
    note_pid(dead(root), qemu.pid)
    sweep()
    assert qemu.wait(20) == -signal.SIGKILL


def test_the_qemu_of_a_living_run_is_left_alone(root: Path, qemu: subprocess.Popen[bytes]) -> None:
    with private_folder() as folder:
        note_pid(folder, qemu.pid)
        assert sweep() == []
        assert qemu.poll() is None
    assert not list(root.iterdir())


@pytest.mark.parametrize("off", [-100, -2, 2, 100])
def test_another_process_that_got_its_number_is_left_alone(
    root: Path, qemu: subprocess.Popen[bytes], off: float
) -> None:
    folder = dead(root)
    (folder / PID).write_text(f"{qemu.pid} {psutil.Process(qemu.pid).create_time() + off}\n")
    assert sweep() == [folder]
    assert qemu.poll() is None


NOTES = [b"", b"x", b"1", b"1 0 0", b"-1 0", b"0 0", b"9" * 20 + b" 0", b"1 nan", b"1 inf", b"\xff 0", b"1 x"]


@pytest.mark.parametrize("note", NOTES)
def test_a_note_that_names_no_process_does_no_harm(root: Path, note: bytes) -> None:
    folder = dead(root)
    (folder / PID).write_bytes(note)
    assert sweep() == [folder]


def test_a_qemu_that_has_ended_already_is_not_noted(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    note_pid(tmp_path, ended.pid)
    assert not list(tmp_path.iterdir())


OWNER = """
import pathlib, signal, subprocess, sys
from harness import paths
from harness.qemu.runtime import note_pid, private_folder
paths.runtime = lambda: pathlib.Path(sys.argv[1])
with private_folder() as folder:
    qemu = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    note_pid(folder, qemu.pid)
    print(qemu.pid, folder, flush=True)
    signal.pause()
"""


def test_what_a_killed_harness_left_is_swept_with_its_qemu(root: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(root)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        qemu = psutil.Process(int(pid))
        assert sweep() == []
        owner.kill()
        owner.wait()
    assert qemu.is_running()
    assert sweep() == [Path(folder)]
    psutil.wait_procs([qemu], timeout=20)
    assert not qemu.is_running() or qemu.status() == psutil.STATUS_ZOMBIE


def test_a_folder_that_its_owner_removes_at_this_moment_upsets_no_sweep(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [dead(root, "a"), dead(root, "b")]
    real_open = os.open

    def late(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == folders[0] and folders[0].exists():
            (folders[0] / "qmp.sock").unlink()
            folders[0].rmdir()
        return real_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late)
    assert sweep() == folders[1:]


def test_nobody_sweeps_a_folder_before_its_maker_holds_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_mkdtemp = tempfile.mkdtemp
    held: list[bool] = []

    def made(**options: Any) -> Any:
        lock = os.open(root, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(lock)
        held.append(True)
        return real_mkdtemp(**options)

    monkeypatch.setattr(tempfile, "mkdtemp", made)
    with private_folder():
        assert held == [True]


def test_many_that_come_and_go_at_once_do_not_disturb_each_other(root: Path) -> None:
    failures: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(20):
                with private_folder() as folder:
                    (folder / "qmp.sock").touch()
        except BaseException as error:  # noqa: BLE001 - it belongs to the test, not to its thread
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not list(root.iterdir())


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o777, 0o720])
def test_a_place_that_is_open_to_others_is_refused(root: Path, mode: int) -> None:
    folder = dead(root)
    root.chmod(mode)
    for action in (sweep, lambda: private_folder().__enter__()):
        with pytest.raises(CouldNotRun, match="belongs to or is open to others; remove it") as caught:
            action()
        assert caught.value.stage is Stage.QEMU
    assert folder.is_dir()


def test_a_place_that_belongs_to_somebody_else_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dead(root)
    monkeypatch.setattr(os, "getuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(CouldNotRun, match="belongs to or is open to others"):
        sweep()
    assert folder.is_dir()


def test_a_link_in_the_place_empties_nothing(root: Path, tmp_path: Path) -> None:
    kept = dead(tmp_path / "home")
    root.symlink_to(tmp_path / "home")
    with pytest.raises(CouldNotRun, match="is a symbolic link; remove it"):
        sweep()
    assert kept.is_dir()


def test_a_place_that_cannot_be_made_is_named(root: Path) -> None:
    root.touch()
    with pytest.raises(CouldNotRun, match=f"^folder for sockets {root}: File exists$"):
        sweep()


def test_the_place_is_short_enough_for_a_socket() -> None:
    longest = paths.runtime() / ("x" * 11) / "console.sock"
    assert len(str(longest).encode()) < 108
