# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs that are killed, interrupted or out of time: no QEMU stays, and what was found out is not lost."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil
import pytest

from harness.deadline import Deadline
from harness.qemu import runtime

HELD = Path(__file__).with_name("held.py")
HARNESS = "harness"
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
BOTH = (str(HELD), "-k", "holds_both")
ONE_EACH = (str(HELD), "-k", "holds_one", "-n", "2")
UP_TIMEOUT = 120.0
GONE_TIMEOUT = 2.0
"""Seconds after which nothing may be left of a run that was killed or told to end."""


@dataclass
class Run:
    """A run with two guests up."""

    process: subprocess.Popen[bytes]
    sockets: Path
    started: list[psutil.Process]
    """All that it has started, and they in turn."""
    pidfds: list[int]
    """Theirs: readable once a process has ended, even where nobody has read its status yet (pidfd_open(2))."""

    @property
    def qemus(self) -> list[psutil.Process]:
        return [one for one in self.started if "-no-user-config" in one.cmdline()]

    def all_end(self, seconds: float) -> bool:
        """Tell whether QEMUs, workers and all others end in that time."""
        deadline = Deadline(seconds, "all that a run has started")
        return all(select.select([one], [], [], deadline.remaining())[0] for one in self.pidfds)

    def leftovers(self) -> list[Path]:
        return sorted((self.sockets / "iov-harness").iterdir())


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="iov-"))
    yield folder
    shutil.rmtree(folder)


class Fifo:
    """Through which test cases in another process say that their guest is up."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR)

    def wait(self) -> bool:
        """Tell whether a guest came up in time."""
        ready, _, _ = select.select([self.descriptor], [], [], UP_TIMEOUT)
        return bool(ready and os.read(self.descriptor, 1))


@pytest.fixture
def fifo(short: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fifo]:
    """Also sets a runtime folder for the run's sockets, apart from all others."""
    made = Fifo(short / "up")
    monkeypatch.setenv("HELD_FIFO", str(made.path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    yield made
    os.close(made.descriptor)


@contextmanager
def two_guests_up(command: tuple[str, ...], ups: int, fifo: Fifo, cwd: Path) -> Iterator[Run]:
    with (cwd / "output").open("wb") as output, subprocess.Popen(
        command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:  # fmt: skip
        try:
            assert all(fifo.wait() for _ in range(ups)), (cwd / "output").read_text()
            started = psutil.Process(process.pid).children(recursive=True)
            with pidfds(started) as opened:
                yield Run(process, fifo.path.parent, started, opened)
        finally:
            process.kill()


@contextmanager
def pidfds(processes: list[psutil.Process]) -> Iterator[list[int]]:
    opened = [os.pidfd_open(process.pid) for process in processes]
    try:
        yield opened
    finally:
        for one in opened:
            os.close(one)


@pytest.mark.parametrize(
    ("command", "ups"),
    [((*PYTEST, *BOTH), 1), ((*PYTEST, *ONE_EACH), 2), ((HARNESS, "test", *ONE_EACH), 2)],
    ids=["pytest", "pytest-n2", "harness-n2"],
)
def test_no_qemu_outlives_a_killed_run(
    harness_command: tuple[str, ...], command: tuple[str, ...], ups: int,
    fifo: Fifo, tmp_path: Path,
) -> None:  # fmt: skip
    if command[0] == HARNESS:
        command = (*harness_command, *command[1:])
    with two_guests_up(command, ups, fifo, tmp_path) as run:
        assert len(run.qemus) == 2
        run.process.kill()
        assert run.all_end(GONE_TIMEOUT)
    assert len(run.leftovers()) == 2
    assert len(runtime.sweep()) == 2
    assert run.leftovers() == []


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda pid: os.killpg(pid, signal.SIGINT), 130),
        (lambda pid: os.kill(pid, signal.SIGTERM), 143),
        (lambda pid: os.killpg(pid, signal.SIGTERM), 143),
    ],
    ids=["ctrl-c", "sigterm", "sigterm-to-all"],
)
def test_an_interrupted_run_ends_its_guests_and_writes_its_reports(
    harness_command: tuple[str, ...], send: Callable[[int], None], code: int, fifo: Fifo, tmp_path: Path
) -> None:
    command = (*harness_command, "test", *BOTH, "--junit", "junit.xml")
    with two_guests_up(command, 1, fifo, tmp_path) as run:
        assert len(run.qemus) == 2
        send(run.process.pid)
        assert run.process.wait(30) == code
        assert run.all_end(GONE_TIMEOUT)
        assert run.leftovers() == []
    assert "Traceback" not in (tmp_path / "output").read_text()
    assert ET.parse(tmp_path / "junit.xml").getroot() is not None  # noqa: S314 - our own file


def test_what_the_deadline_cuts_off_or_leaves_unrun_is_a_miss_and_reported(
    harness_test: Callable[..., subprocess.CompletedProcess[str]], fifo: Fifo, tmp_path: Path
) -> None:
    del fifo
    done = harness_test(
        str(HELD), "-k", "holds_one", "--deadline", "30", "--json", "--junit", "junit.xml", cwd=tmp_path
    )
    assert done.returncode == 3, done.stderr
    tests = json.loads(done.stdout)["tests"]
    assert [(one["outcome"], one["stage"]) for one in tests] == [("MISS", "deadline")] * 2
    assert [one["reason"] for one in tests] == ["the run's deadline of 30 s is over"] * 2
    errors = ET.parse(tmp_path / "junit.xml").findall(".//testcase/error")  # noqa: S314 - our own file
    assert len(errors) == 2
