# SPDX-License-Identifier: GPL-2.0-or-later
"""The life and end of a QEMU, for which small programs stand in."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.errors import CouldNotRun, Stage
from harness.qemu.loop import the_loop
from harness.qemu.process import Exit, QemuProcess

HANG = ("sleep", "600")


def soon() -> Deadline:
    return Deadline(20, "QEMU")


class Watched(QemuProcess):
    """A process that keeps what it told of its end, and in which thread."""

    def __init__(self) -> None:
        self.told: list[tuple[Exit, str]] = []
        super().__init__(the_loop(), lambda how: self.told.append((how, threading.current_thread().name)))

    def ended(self, *argv: str) -> Exit:
        self.start(argv, [], soon())
        return self.wait(soon())


@pytest.fixture
def process() -> Iterator[Watched]:
    """Make a process that is not started; it is gone at the end."""
    made = Watched()
    yield made
    made.kill()


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def gone(pid: int) -> bool:
    """Wait until a process, whoever its parent, is gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], 20)[0])
    finally:
        os.close(watched)


def test_an_end_is_told_once_with_code_and_words_in_the_loops_thread(process: Watched) -> None:
    how = process.ended(*sh("echo out; echo no such device >&2; exit 3"))
    assert how == Exit(3, "out\nno such device\n")
    assert process.told == [(how, "iov-harness-loop")]
    assert process.exit is how
    assert str(how) == "QEMU ended, exit code 3; it said: out\nno such device"


def test_an_end_without_a_word_says_so(process: Watched) -> None:
    assert str(process.ended("true")) == "QEMU ended, exit code 0; it said: nothing"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_that_kills_is_named(process: Watched, number: signal.Signals) -> None:
    assert f"killed by {number.name};" in str(process.ended(*sh(f"kill -{number} $$")))


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert str(Exit(-40, "")) == "QEMU ended, killed by signal 40; it said: nothing"


def test_no_escape_passes_with_its_words(process: Watched) -> None:
    assert process.ended(*sh(r"printf '\033[31mred\033]0;owned\007\377\n'")).stderr == "red\ufffd\n"


def test_a_flood_of_words_is_read_to_its_end_but_not_kept(process: Watched) -> None:
    how = process.ended(*sh("echo first; head -c 5000000 /dev/zero | tr '\\0' x; exit 5"))
    assert how.code == 5
    assert how.stderr.startswith("first\n")
    (left_out,) = re.findall(r"\[\.\.\. (\d+) characters left out", how.stderr)
    assert int(left_out) < 64 * 1024
    assert len(how.stderr) < 5000


def test_a_program_that_is_not_there_ends_saying_its_name(process: Watched) -> None:
    how = process.ended("/no/such/qemu")
    assert how.code != 0
    assert "/no/such/qemu" in how.stderr


def test_a_host_without_setpriv_is_told_what_to_install(
    process: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CouldNotRun, match="apt-get install util-linux") as caught:
        process.start(HANG, [], soon())
    assert caught.value.stage is Stage.QEMU


def test_the_process_is_the_program_itself(process: Watched) -> None:
    assert process.ended(*sh("echo $$")).stderr == f"{process.pid}\n"


def test_it_does_not_start_for_a_harness_that_ended_meanwhile(
    process: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 0)  # nobody's: its parent is another by now
    assert process.ended(*sh("echo started")) == Exit(1, "")


def test_it_reads_nothing_and_is_in_a_session_of_its_own(process: Watched) -> None:
    assert process.ended(*sh("cat; cut -d' ' -f6 /proc/$$/stat")).stderr == f"{process.pid}\n"


def test_it_gets_the_descriptors_given_and_no_others(process: Watched) -> None:
    ours, given = os.pipe()
    other = os.dup(given)
    os.set_inheritable(other, True)  # noqa: FBT003 - it takes no keyword
    process.start(sh(f"echo given >/dev/fd/{given}; ls /proc/$$/fd"), [given], soon())
    os.close(given)
    listed = process.wait(soon()).stderr.split()
    os.set_blocking(ours, False)
    assert os.read(ours, 100) == b"given\n"
    os.close(ours)
    os.close(other)
    assert str(given) in listed
    assert str(other) not in listed


def test_killing_waits_until_it_is_gone(process: Watched) -> None:
    process.start(HANG, [], soon())
    assert Path("/proc", str(process.pid)).exists()
    process.kill()
    assert not Path("/proc", str(process.pid)).exists()
    assert process.exit == Exit(-9, "")
    assert str(process.exit) == "QEMU ended, killed by SIGKILL; it said: nothing"
    assert len(process.told) == 1


def test_a_script_that_will_not_end_is_killed_with_what_it_started(process: Watched, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    script = "trap '' INT TERM HUP QUIT; while :; do sh -c 'echo $$ >\"$0\"; exec sleep 600' \"$0\"; done"
    process.start([*sh(script), str(tmp_path / "fifo")], [], soon())
    child = int((tmp_path / "fifo").read_text())
    process.kill()
    assert gone(child)
    assert process.exit == Exit(-9, "")


def test_killing_what_never_started_or_has_ended_does_nothing(process: Watched) -> None:
    process.kill()
    how = process.ended("true")
    process.kill()
    process.kill()
    assert process.exit is how
    assert len(process.told) == 1


def test_waiting_for_an_end_that_does_not_come_ends_in_time_and_can_be_done_again(process: Watched) -> None:
    process.start(HANG, [], soon())
    for _ in range(2):
        with pytest.raises(DeadlineExpired):
            process.wait(Deadline(0.01, "QEMU"))
    assert process.exit is None
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(soon()).code == -9


PARENT = """
import signal, sys
from harness.deadline import Deadline
from harness.qemu.loop import the_loop
from harness.qemu.process import QemuProcess
process = QemuProcess(the_loop(), lambda how: None)
process.start(["sh", "-c", "echo >&2; exec sleep 600"], [], Deadline(20, "QEMU"))
print(process.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_a_harness_that_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path("/proc", str(pid)).exists()
        parent.send_signal(number)
        assert gone(pid)
