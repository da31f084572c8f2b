# SPDX-License-Identifier: GPL-2.0-or-later
"""Showing what a command in a guest says, as it comes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import typer

from harness.errors import CouldNotRun
from harness.guest.ssh import Tell
from harness.text import decoded

_LINE_LIMIT = 65536
"""Bytes of a line that is shown before its end has come."""
_BROKEN_PIPE = 128 + signal.SIGPIPE
"""What a shell says of a command that wrote to a pipe which nobody reads any more."""


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
