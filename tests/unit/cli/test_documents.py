# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that README.md and docs/ show are commands that there are, with options that they have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from harness import paths
from harness.cli import app

DOCUMENTS = [paths.data_root() / "README.md", *sorted(paths.docs().glob("*.md"))]
_BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[ '/])harness((?: (?:\"[^\"]*\"|'[^']*'|[^\s#|<&;'\"]+))+)", re.MULTILINE)


def commands(text: str) -> Iterator[tuple[str, list[str], set[str]]]:
    """Give every command of the harness in a text's examples: its line, its words, its long options."""
    for block in _BLOCK.finditer(text):
        for shown in _COMMAND.finditer(re.sub(r"-C \S+", "", block[1])):  # make's folder may have our name
            own, *_ = shown[1].split(" -- ")  # what comes behind is a guest's
            words = re.findall(r"\"[^\"]*\"|'[^']*'|\S+", own)
            yield f"harness{shown[1]}", words, {re.split("[=:]", word)[0] for word in words if word.startswith("--")}


def options_of(words: list[str]) -> set[str]:
    """Give the options of the command that the words begin with."""
    command = typer.main.get_command(app)
    for number, word in enumerate(words):
        below = getattr(command, "commands", {}).get(word.rstrip(",:"))
        assert below is not None or number > 0, f"there is no `harness {word}`"
        if below is None:
            break
        command = below
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_what_a_document_shows_is_there(document: Path) -> None:
    unknown = []
    for line, words, options in commands(document.read_text(encoding="utf-8")):
        there = {*options_of(words), "--help", "--version"}
        unknown += [f"{line}: {option}" for option in sorted(options - there)]
    assert unknown == []


def test_there_are_such_examples() -> None:
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert len(list(commands(text))) > 40
