# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in a guest whose SSH server answers rightly, without end, in part or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from sshd import Sshd, ended, saying

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.guest.ssh import COMMAND_LIMIT, OUTPUT_LIMIT, CommandFailed, Completed, GuestLost, GuestTimeout, Session
from harness.provision.keys import Keys


def soon() -> Deadline:
    return Deadline(30, "the guest's first SSH session")


@pytest.fixture
def session(sshd: Sshd, keys: Keys, tmp_path: Path) -> Iterator[Session]:
    """Make a connected session."""
    made = Session(keys, tmp_path / "ssh.log")
    made.connect(sshd.port, soon())
    yield made
    made.close()


def test_a_command_gives_its_status_and_both_its_streams(sshd: Sshd, session: Session) -> None:
    sshd.commands["x"] = saying(b"out\n", b"err\n", 7)
    assert session.run("x") == Completed("x", 7, "out\n", "err\n")


def test_words_are_quoted_for_the_guests_shell(sshd: Sshd, session: Session) -> None:
    sshd.commands["echo 'a  b' '$c'"] = saying()
    assert session.run(["echo", "a  b", "$c"]).status == 0


def test_a_status_other_than_0_is_an_error_only_where_it_is_checked(sshd: Sshd, session: Session) -> None:
    sshd.commands["x"] = saying(b"out", b"\x1b[31mwrong\n", 3)
    assert session.run("x").status == 3
    with pytest.raises(CommandFailed, match=r"^`x` ended with 3: wrong\n$"):
        session.run("x", check=True)


def test_no_escape_passes_into_output_or_log(sshd: Sshd, session: Session, tmp_path: Path) -> None:
    sshd.commands["x"] = saying(b"\x1b]0;owned\x07\x1b[2Jclear\r\n\x00", b"\x9b31m\xffred\x1b[0m")
    done = session.run("x")
    assert (done.stdout, done.stderr) == ("clear\n", "\ufffd31m\ufffdred")
    log = (tmp_path / "ssh.log").read_text(encoding="utf-8")
    assert "clear\n\ufffd31m\ufffdred" in log
    assert "\x1b" not in log


@pytest.mark.parametrize(("extra", "truncated"), [(0, False), (1, True), (3 * OUTPUT_LIMIT, True)])
def test_output_is_bounded_and_says_so(sshd: Sshd, session: Session, extra: int, truncated: bool) -> None:
    sshd.commands["x"] = saying(b"o" * (OUTPUT_LIMIT + extra), b"e" * 10)
    done = session.run("x")
    assert (len(done.stdout), done.stderr, done.truncated) == (OUTPUT_LIMIT, "e" * 10, truncated)


def test_errors_beyond_the_limit_are_dropped_too(sshd: Sshd, session: Session) -> None:
    sshd.commands["x"] = saying(b"o", b"e" * (OUTPUT_LIMIT + 1))
    done = session.run("x")
    assert (done.stdout, len(done.stderr), done.truncated) == ("o", OUTPUT_LIMIT, True)


def test_the_last_words_of_a_command_are_never_lost(sshd: Sshd, session: Session) -> None:
    sshd.commands["x"] = saying(b"last words")
    assert {session.run("x").stdout for _ in range(100)} == {"last words"}


def test_a_command_that_ends_late_is_given_up_in_time(sshd: Sshd, session: Session) -> None:
    sshd.commands["x"] = lambda _: sshd.hang()
    with pytest.raises(GuestTimeout, match=r"^guest command `x`: nothing within 0\.2 s$"):
        session.run("x", timeout=0.2)
    sshd.commands["y"] = saying(b"still there")
    assert session.run("y").stdout == "still there"


class Started(Session):
    """A session that has started one command."""

    def __init__(self, channel: paramiko.Channel, log: Path) -> None:
        super().__init__(Keys(log.parent, ""), log)
        self._channel_started = channel

    def open(self, command: str, deadline: Deadline) -> paramiko.Channel:
        del command, deadline
        return self._channel_started


def test_what_came_before_anybody_read_is_read_to_its_end(tmp_path: Path) -> None:
    channel = paramiko.Channel(1)
    channel.in_buffer.feed(b"o" * 300_000)
    channel.in_stderr_buffer.feed(b"e" * 200_000)
    channel.eof_received = channel.closed = True
    channel.exit_status = 0
    channel.status_event.set()
    session = Started(channel, tmp_path / "ssh.log")
    done = session.run("x", timeout=20)
    assert (len(done.stdout), len(done.stderr)) == (300_000, 200_000)
    session.close()


class Endless(paramiko.Channel):
    """A channel on which there always is more to read."""

    turns = 0

    def recv_ready(self) -> bool:
        return True

    def recv(self, nbytes: int) -> bytes:
        self.turns += 1
        assert self.turns < 500_000, "the deadline does not count"
        return b"y" * nbytes


def test_output_that_comes_without_a_pause_is_given_up_in_time(tmp_path: Path) -> None:
    channel = Endless(1)
    channel.in_buffer.feed(b"y")
    session = Started(channel, tmp_path / "ssh.log")
    with pytest.raises(GuestTimeout):
        session.run("yes", timeout=0.05)
    session.close()


def flood(channel: paramiko.Channel) -> None:
    while True:
        channel.sendall(b"y\n" * 10_000)


def test_a_command_that_never_stops_writing_is_given_up_and_the_next_one_works(sshd: Sshd, session: Session) -> None:
    sshd.commands["yes"] = flood
    sshd.commands["x"] = saying(b"still there")
    start = time.monotonic()
    with pytest.raises(GuestTimeout):
        session.run("yes", timeout=0.2)
    assert time.monotonic() - start < 10
    assert session.run("x").stdout == "still there"


def test_a_command_whose_status_never_comes_is_given_up_in_time(sshd: Sshd, session: Session) -> None:
    def half_ended(channel: paramiko.Channel) -> None:
        channel.shutdown_write()
        sshd.hang()

    sshd.commands["x"] = half_ended
    with pytest.raises(GuestTimeout):
        session.run("x", timeout=0.2)


def test_a_guest_that_does_not_answer_a_request_is_given_up_in_time(sshd: Sshd, session: Session) -> None:
    sshd.answers_requests.clear()
    with pytest.raises(GuestTimeout, match=r"nothing within 0\.15 s"):
        session.run("x", timeout=0.15)
    with pytest.raises(GuestTimeout, match=r"nothing within 0\.15 s"):
        session.run("x", timeout=0.15)


def test_a_command_without_an_exit_status_failed_but_the_guest_is_not_lost(sshd: Sshd, session: Session) -> None:
    sshd.commands["x"] = saying(b"out", status=None)
    with pytest.raises(CommandFailed, match="`x` ended without an exit status"):
        session.run("x")


def test_a_command_that_is_too_long_is_refused_before_it_is_sent(sshd: Sshd, session: Session) -> None:
    longest = "ü" * (COMMAND_LIMIT // 2)
    sshd.commands[longest] = saying()
    assert session.run(longest).status == 0
    with pytest.raises(UsageError, match=r"^a guest takes commands of 9000 bytes, not 9001: "):
        session.run(f"{longest}x")
    assert sshd.started == [longest]


@pytest.mark.parametrize("error", [OSError("disk full"), EOFError(), TypeError("x"), KeyError("x")])
def test_what_a_listener_raises_is_not_the_guests_fault(sshd: Sshd, session: Session, error: Exception) -> None:
    def tell(_stream: int, _data: bytes) -> None:
        raise error

    sshd.commands["x"] = saying(b"out")
    with pytest.raises(type(error)) as caught:
        session.run("x", tell=tell)
    assert caught.value is error
    assert session.run("x").stdout == "out"


@pytest.mark.parametrize("command", [5, ["x", 5], None])
def test_a_command_that_is_none_is_the_callers_fault(session: Session, command: Any) -> None:
    with pytest.raises(TypeError):
        session.run(command)


def test_a_command_that_the_guest_refuses_to_start_is_told(session: Session) -> None:
    with pytest.raises(GuestLost, match="Channel closed"):
        session.run("unknown")


@pytest.mark.parametrize("status", [128, 255, 2**32 - 1])
def test_any_status_that_a_guest_makes_up_is_an_answer(sshd: Sshd, session: Session, status: int) -> None:
    sshd.commands["x"] = saying(status=status)
    assert session.run("x").status == status


def test_a_cut_connection_is_told_with_the_reason_for_which_it_was_cut(sshd: Sshd, session: Session) -> None:
    sshd.commands["x"] = lambda _: sshd.hang()
    cutting = threading.Timer(0.1, session.abort, ["Kernel panic - not syncing: x"])
    cutting.start()
    with pytest.raises(GuestLost, match=r"^Kernel panic - not syncing: x$"):
        session.run("x")
    session.abort("a later reason")
    for action in (lambda: session.run("x"), lambda: session.get("/x"), lambda: session.put(b"", "/x")):
        with pytest.raises(GuestLost, match=r"^Kernel panic - not syncing: x$"):
            action()
    cutting.join()


def test_a_connection_that_the_guest_cuts_is_lost(sshd: Sshd, session: Session) -> None:
    def dying(channel: paramiko.Channel) -> None:
        channel.sendall(b"last words")
        sshd.cut()

    sshd.commands["x"] = dying
    with pytest.raises(GuestLost, match="SSH connection to the guest broke"):
        session.run("x")
    with pytest.raises(GuestLost, match="SSH connection to the guest broke"):
        session.run("x")


def test_whoever_waits_for_an_answer_wakes_when_the_connection_is_cut(sshd: Sshd, session: Session) -> None:
    sshd.answers_requests.clear()
    cutting = threading.Timer(0.1, session.abort, ["QEMU ended"])
    cutting.start()
    with pytest.raises(GuestLost, match=r"^QEMU ended$"):
        session.run("x")
    cutting.join()


def test_a_session_that_was_never_connected_or_is_closed_says_so(keys: Keys, tmp_path: Path) -> None:
    session = Session(keys, tmp_path / "ssh.log")
    with pytest.raises(GuestLost, match="there is no connection to the guest"):
        session.run("x")
    session.close()
    session.close()
    with pytest.raises(GuestLost, match="the session was closed"):
        session.run("x")


def test_several_commands_run_at_the_same_time(sshd: Sshd, session: Session) -> None:
    barrier = threading.Barrier(2)

    def meeting(channel: paramiko.Channel) -> None:
        barrier.wait(20)
        ended(channel)

    sshd.commands["x"] = meeting
    other = threading.Thread(target=session.run, args=("x",))
    other.start()
    assert session.run("x").status == 0
    other.join()


def test_what_is_said_of_a_broken_connection_is_safe_to_show_and_short(session: Session) -> None:
    assert str(session.lost("\x1b[31mred\x07")) == "the SSH connection to the guest broke: red"
    assert str(session.lost(EOFError())) == "the SSH connection to the guest broke: EOFError"
    assert len(str(session.lost("x" * 100_000))) < 1000
