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
from types import FrameType

import paramiko

from harness.deadline import Deadline
from harness.guest.ssh import Session, Tell
from harness.text import decoded

_OPEN_TIMEOUT = 20.0
_LINE_LIMIT = 65536
"""Bytes of a line that is shown before its end has come."""


def interact(session: Session) -> None:
    """Give the terminal to a login shell in the guest, until it ends. What it writes is shown as it is."""
    size = os.get_terminal_size()
    channel = session.open_terminal(size.columns, size.lines, Deadline(_OPEN_TIMEOUT, "a shell in the guest"))
    with contextlib.closing(channel), _raw_terminal(), _following_size(channel):
        _copy(channel)


@contextlib.contextmanager
def shown() -> Iterator[Tell]:
    """Give what shows a command's output: line by line as it comes, without what a terminal would obey."""
    streams = {1: sys.stdout, 2: sys.stderr}
    rests = dict.fromkeys(streams, b"")

    def show(number: int, data: bytes) -> None:
        whole, newline, rest = (rests[number] + data).rpartition(b"\n")
        if len(rest) > _LINE_LIMIT:
            whole, newline, rest = whole + newline, rest, b""
        rests[number] = rest
        streams[number].write(decoded(whole + newline))
        streams[number].flush()

    try:
        yield show
    finally:
        for number, rest in rests.items():
            streams[number].write(decoded(rest))


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
