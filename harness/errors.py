# SPDX-License-Identifier: GPL-2.0-or-later
"""The three ways in which things go wrong, kept apart everywhere.

`HarnessError`: the run could not be done as asked; its text is the one line that the user reads.
`GuestFailure`: what is under test (kernel or device model) misbehaved.
Any other exception is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import ClassVar


class Stage(StrEnum):
    """How far a machine came before it was lost."""

    PROVISION = "provision"
    QEMU = "qemu"
    FIRMWARE = "firmware"
    KERNEL = "kernel"
    INIT = "init"
    SSH = "ssh"
    PLUG = "plug"
    DEADLINE = "deadline"


class HarnessError(Exception):
    """Base of the errors that are told to the user in one line; `exit_code` is what the command then exits with."""

    exit_code: ClassVar[int] = 3


class UsageError(HarnessError):
    """What was asked for makes no sense: an unknown name, a value out of range."""

    exit_code = 2


class CouldNotRun(HarnessError):
    """The request was sound, but no machine came up to carry it out.

    `stage` says how far it came; `detail`, of several lines, is what a reader needs to find out why.
    """

    def __init__(self, message: str, *, stage: Stage = Stage.PROVISION, detail: str = "") -> None:
        super().__init__(message)
        self.stage = stage
        self.detail = detail
        if detail:
            self.add_note(detail)  # pytest shows it below the message


class MachineLost(CouldNotRun):
    """A machine was started and lost before it was of use; `complained` says whether its kernel told why."""

    def __init__(self, message: str, *, stage: Stage, detail: str, complained: bool) -> None:
        super().__init__(message, stage=stage, detail=detail)
        self.complained = complained


class GuestFailure(Exception):
    """The kernel or device under test did wrong: a test that sees this has FAILed."""


class ModelFailed(Exception):
    """A device model that is written in Python is wrong itself, be it the harness's or the user's: ERROR."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say in one line that `name` is none of the `known`, which one may have been meant, and what there is."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {name!r}{hint} (there are: {', '.join(names)})"
