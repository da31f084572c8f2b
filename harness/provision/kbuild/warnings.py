# SPDX-License-Identifier: GPL-2.0-or-later
"""What a compiler warned of, object by object: one that is not compiled again keeps the warnings it had.

So a tree's warnings are all of them, also where only little of it was compiled, and those of two trees can be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.text import printable

_TARGET = re.compile(r"^  (?:[A-Z]+|[A-Z]+ \[M\]) +(?P<object>\S+\.o)$")
"""How Kbuild tells what it makes (scripts/Kbuild.include, `quiet_cmd_...`)."""
_WARNING = re.compile(r"^(?P<file>[^\s:]+):\d+(?::\d+)?: warning: (?P<text>.+)$")
_MOST = 10_000
"""Warnings of one build that are kept: a tree with W=2 has as many."""

Warnings = Mapping[str, list[str]]
"""By object; each warning as `FILE: TEXT`, without line numbers, which every patch moves."""


def parse(log: str, tree: Path) -> dict[str, list[str]]:
    """Read the log of a build, in which each object's lines stand together (`--output-sync=target`)."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in log.splitlines():
        if target := _TARGET.match(line):
            current = target["object"]
            found[current] = []
        elif current and (warning := _WARNING.match(line)) and len(found[current]) < _MOST:
            file = warning["file"].removeprefix(f"{tree}/").removeprefix("../tree/")
            found[current].append(printable(f"{file}: {warning['text']}"))
    return found


def remembered(path: Path) -> dict[str, list[str]] | None:
    """Read what earlier builds in a folder left; None where that is not known."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


def remember(path: Path, warnings: Warnings) -> None:
    """Write them for the next build, whole or not at all."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps({name: texts for name, texts in warnings.items() if texts}), encoding="utf-8")
    draft.replace(path)


def flat(warnings: Warnings) -> list[str]:
    """Give every warning once, sorted."""
    return sorted({text for texts in warnings.values() for text in texts})


def unseen(objects: Path, files: Iterable[str]) -> list[str]:
    """Give those of these C and assembly files that no object in a build's folder was made from.

    fixdep (scripts/basic/fixdep.c) writes beside each object, into `.NAME.cmd`, every file that it was made from.
    """
    asked = {name for name in files if name.endswith((".c", ".h", ".S"))}
    for path in objects.rglob(".*.cmd"):
        if not asked:
            break
        text = path.read_text(encoding="utf-8", errors="replace")
        asked = {name for name in asked if not re.search(rf"(?:^|[\s/]){re.escape(name)}(?=[\s\\)]|$)", text)}
    return sorted(asked)
