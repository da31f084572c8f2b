# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a program that starts others, such as make: none of them outlives it, or the harness."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from harness.outcome import SIGNALLED

_PASSED = ("HOME", "TMPDIR")
"""What a job may know of the caller's environment: variables of make, Kbuild and ccache would shape what it makes."""
_REAPER = 'trap "trap - TERM; kill -TERM -$$" TERM; "$@" & wait $!'
"""A shell that leads the job's process group. It is sent SIGTERM when the harness ends, be it by SIGKILL, and passes
that on to all of the group: make(1) would end by it alone, and leave a compiler to write where another build works.
"""
_PATIENCE = 10.0
"""Seconds for a job to end orderly, removing what it has half done."""


def environment(more: Mapping[str, str] | None = None, *, first: Path | None = None) -> dict[str, str]:
    """Give the environment of a job: `more`, and little else; its programs are looked for in `first` before PATH."""
    path = os.environ.get("PATH", os.defpath)
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**passed, "PATH": f"{first}:{path}" if first else path, "LC_ALL": "C", **(more or {})}


@contextmanager
def started(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a job, whose output is a pipe; it ends, with all that it started, when the block or the harness does."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "sh", "-c", _REAPER, "sh", *command], env=environment,
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        with process, _told_to_end():
            try:
                yield process
            except BaseException:
                _end(process)
                raise
    finally:
        _signalled(process, signal.SIGKILL)  # what may be left where the job itself was killed


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Let SIGTERM raise in the block, and so end the job first: what it made until then is whole, and can be used."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread alone
        return

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(SIGNALLED + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signalled(process, signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        _signalled(process, signal.SIGKILL)


def _signalled(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):  # all of the group is gone
        os.killpg(process.pid, number)
