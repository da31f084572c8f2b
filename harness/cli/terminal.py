# SPDX-License-Identifier: GPL-2.0-or-later
"""Joining the user's terminal to a shell in a guest."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

import paramiko
import typer

from harness.deadline import Deadline
from harness.errors import CouldNotRun
from harness.guest.ssh import Session, Tell, hang_up
from harness.text import decoded

_OPEN_TIMEOUT = 20.0
_LINE_LIMIT = 65536
"""Bytes of a line that is shown before its end has come."""
_BROKEN_PIPE = 128 + signal.SIGPIPE
"""What a shell says of a command that wrote to a pipe which nobody reads any more."""


def interact(session: Session) -> None:
    """Give the terminal to a login shell in the guest, until either ends. What it writes is shown as it is."""
    size = os.get_terminal_size()
    channel = session.open_terminal(size.columns, size.lines, Deadline(_OPEN_TIMEOUT, "a shell in the guest"))
    try:
        with _raw_terminal(), _following_size(channel):
            _copy(channel)
    finally:
        hang_up(channel)


def wait_for_enter() -> None:
    """Wait for Enter; what was typed for the guest before that does not count."""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    sys.stdin.readline()


@contextlib.contextmanager
def shown() -> Iterator[Tell]:
    """Give what shows a command's output: line by line as it comes, without what a terminal would obey.

    Where nobody reads it any more, the command ends quietly (`typer.Exit`), as `head` wants it.
    """
    streams = {1: sys.stdout, 2: sys.stderr}
    rests = dict.fromkeys(streams, b"")

    def show(number: int, data: bytes) -> None:
        whole, newline, rest = (rests[number] + data).rpartition(b"\n")
        if len(rest) > _LINE_LIMIT:
            whole, newline, rest = whole + newline, rest, b""
        rests[number] = rest
        _write(streams[number], decoded(whole + newline))

    try:
        yield show
    finally:
        for number, rest in rests.items():
            _write(streams[number], decoded(rest))


def _write(stream: TextIO, text: str) -> None:
    # No OSError leaves this: to who runs the command it would say that the connection to the guest broke.
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        with Path(os.devnull).open("w") as nowhere:  # takes what the stream still holds when Python ends
            os.dup2(nowhere.fileno(), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(_BROKEN_PIPE) from error
        raise CouldNotRun(f"the command's output cannot be written: {error.strerror}") from error


def _copy(channel: paramiko.Channel) -> None:
    keyboard = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([channel, keyboard], [], [])
        if channel in ready:
            data = channel.recv(65536)
            if not data:
                return
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            if not typed:
                return
            with contextlib.suppress(OSError):  # the guest is gone: what it said last is still to be shown
                channel.sendall(typed)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _following_size(channel: paramiko.Channel) -> Iterator[None]:
    def resize(_number: int, _frame: FrameType | None) -> None:
        size = os.get_terminal_size()
        channel.resize_pty(size.columns, size.lines)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
