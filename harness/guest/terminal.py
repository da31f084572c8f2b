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
from harness.guest.ssh import Session, hang_up

_OPEN_TIMEOUT = 20.0


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
