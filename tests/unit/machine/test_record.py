# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders of runs and tests: each its own, whatever a test is called."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import CouldNotRun, Stage
from harness.machine.record import folder_for, forget, make_run, new_run, planned_run, slug

LONG = "tests/guest/test_x.py::test_y[" + "a" * 5000
HOSTILE = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "-",
    "-rf",
    "a\0b",
    "a\nb",
    "\x1b[31mred",
    "$(reboot)`reboot`;'\"\\",
    "grün/緑/🟩",
    "\ud800",
    "~root",
    "con:nul",
    " a b ",
    LONG,
    "ü" * 5000,
    "x" * 500 + "\udcff",
    "." * 500,
    "x" * 99 + "/" * 500 + "y",
]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("tests/guest/sriov/test_numvfs.py::test_enable[igb-4]", "guest-sriov-test_numvfs.py.test_enable-igb-4"),
        ("test_a.py::TestB::test_c", "test_a.py.TestB.test_c"),
        ("shell-nvme-sriov", "shell-nvme-sriov"),
        ("a=1_b.c", "a=1_b.c"),
    ],
)
def test_a_folder_is_named_after_its_test(name: str, folder: str) -> None:
    assert slug(name) == folder


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_gives_a_harmless_one_of_bounded_length(name: str, tmp_path: Path) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_=][A-Za-z0-9_.=-]{0,119}", slug(name))
    folder = folder_for(tmp_path, name)
    assert folder.is_dir()
    assert folder.parent == tmp_path


def test_long_names_that_begin_alike_stay_apart() -> None:
    assert slug(LONG + "1") != slug(LONG + "2")
    assert slug(LONG) == slug(LONG)


def test_the_same_name_gets_a_folder_of_its_own_every_time(tmp_path: Path) -> None:
    (tmp_path / "x.3").touch()
    found = [folder_for(tmp_path, name) for name in ("x", "x", "x", "x/", "x.2")]
    assert [folder.name for folder in found] == ["x", "x.2", "x.4", "x.5", "x.2.2"]


def test_workers_that_run_at_the_same_time_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: folder_for(tmp_path / "run", "x"), range(80)))
    assert len(set(found)) == 80


def test_a_name_that_was_used_a_thousand_times_is_refused(tmp_path: Path) -> None:
    for number in range(2, 1000):
        (tmp_path / f"x.{number}").mkdir()
    folder_for(tmp_path, "x")
    with pytest.raises(CouldNotRun, match="already holds a thousand runs of x"):
        folder_for(tmp_path, "x")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.touch()
    with pytest.raises(CouldNotRun, match=f"^output folder {run} cannot be written: Not a directory$") as caught:
        folder_for(run, "x")
    assert caught.value.stage is Stage.QEMU


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty folder, and give the place at which runs are recorded."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "build" / "runs"


def test_a_run_is_named_after_time_and_process_and_is_the_latest(runs: Path) -> None:
    run = new_run()
    assert run.parent == runs
    assert re.fullmatch(rf"\d{{8}}-\d{{6}}-{os.getpid()}(\.\d+)?", run.name)
    assert (runs / "latest").resolve() == run
    assert sorted(path.name for path in runs.iterdir()) == sorted([run.name, "latest"])


def test_two_runs_of_one_second_stay_apart_and_the_later_is_the_latest(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    first, second = new_run(), new_run()
    assert first != second
    assert (runs / "latest").resolve() == second


def test_a_planned_run_is_made_once_and_by_whoever_comes_first(runs: Path) -> None:
    planned = planned_run()
    assert not runs.exists()
    assert make_run(planned) == make_run(planned) == planned
    assert (runs / "latest").resolve() == planned


def test_a_folder_in_the_place_of_the_latest_run_keeps_no_run_from_being_made(runs: Path) -> None:
    (runs / "latest" / "x").mkdir(parents=True)
    assert new_run().is_dir()


def test_a_run_cannot_be_made_where_nothing_can_be_written(runs: Path) -> None:
    runs.parent.touch()
    with pytest.raises(CouldNotRun, match=f"^output folder {runs} cannot be written: Not a directory$"):
        new_run()


def test_an_empty_run_leaves_nothing_when_it_is_forgotten(runs: Path, tmp_path: Path) -> None:
    forget(new_run())
    assert not list(tmp_path.iterdir())
    assert not runs.exists()


def test_a_run_in_which_something_was_written_is_not_forgotten(runs: Path) -> None:
    run = new_run()
    folder_for(run, "x")
    forget(run)
    assert (runs / "latest" / "x").is_dir()


def test_forgetting_a_run_leaves_another_one_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    first, second = new_run(), new_run()
    forget(first)
    assert (runs / "latest").resolve() == second
    assert not first.exists()
