# SPDX-License-Identifier: GPL-2.0-or-later
"""Flags that name a series of patches, and what it is built in."""

from __future__ import annotations

from typing import Annotated

import typer

TREE = "The tree that the patches are for: a folder (git or plain), or debian:VERSION."
SERIES = "The patches: an mbox, a patch, a folder of numbered patches, or a range of commits in --source."
PATCHES = "MBOX|DIR|RANGE"
CONFIGS = "base, siov, debug, siov+debug, ..., or a file of your own"

Base = Annotated[
    str | None,
    typer.Option(
        metavar="REV", help="The commit that they are for (default: the series' base-commit, or the tree as it stands)."
    ),
]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=0, help="Compile so many files at once (0: all cores).")]


def fragments(name: str) -> tuple[str, ...]:
    """Give the fragments beyond the base that a configuration's name stands for: `siov+debug`."""
    return tuple(one for one in name.split("+") if one != "base")
