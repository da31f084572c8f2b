# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness report`: what runs have said, in the formats that others read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import CouldNotRun, UsageError
from harness.report import html, kcidb, text, validation, xml
from harness.report.run import Run
from harness.report.text import Reply
from harness.report.validation import Validation


class Format(StrEnum):
    """What a report is written as."""

    TEXT = "text"
    JUNIT = "junit"
    KCIDB = "kcidb"
    HTML = "html"


_RENDER: Mapping[Format, Callable[[Sequence[Run], Sequence[Validation]], str]] = {
    Format.JUNIT: xml.render,
    Format.KCIDB: lambda runs, validations: json.dumps(kcidb.render(runs, validations), indent=1, default=str) + "\n",
    Format.HTML: html.render,
}


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Folders of runs, or of one validation.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write (default: to the terminal).")
    ] = None,
    in_reply_to: Annotated[
        str | None, typer.Option(metavar="MESSAGE-ID", help="text: the mail that this answers, for its headers.")
    ] = None,
    subject: Annotated[str, typer.Option(help="text: that mail's subject.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="Short for --format kcidb.")] = False,
) -> None:
    """Write what runs have said: as text for a mail, JUnit XML, KCIDB's JSON, or one HTML page.

    Several runs stand side by side in the page, and one after another elsewhere.
    """
    wanted = Format.KCIDB if json_ else format_
    if (in_reply_to is not None or subject) and wanted is not Format.TEXT:
        raise UsageError(f"--in-reply-to and --subject: only --format text is a mail, not {wanted}")
    if subject and in_reply_to is None:
        raise UsageError("--subject: give the mail's Message-ID too, by --in-reply-to")
    reply = None if in_reply_to is None else Reply(in_reply_to, subject or "iov-harness")
    validations = [Validation.load(folder) for folder in runs if validation.is_one(folder)]
    if validations and wanted is Format.TEXT:
        if len(runs) > 1:
            raise UsageError("a validation is told by itself: give one folder")
        made = validation.render(validations[0], reply)
    else:
        loaded = [run for folder in runs for run in _runs(folder)]
        made = text.render(loaded, reply) if wanted is Format.TEXT else _RENDER[wanted](loaded, validations)
    if output is None:
        typer.echo(made, nl=False)
        return
    _write(output, made)


def _runs(folder: Path) -> list[Run]:
    """Give a run, or those of a validation's steps."""
    return validation.runs(folder) if validation.is_one(folder) else [Run.load(folder)]


def _write(output: Path, made: str) -> None:
    """Write a file whole or not at all; what is no file of that kind, such as a terminal, as it comes."""
    is_special = output.exists() and not output.is_file()
    try:
        if is_special:
            output.write_text(made, encoding="utf-8")
            return
        draft = output.absolute().with_name(f".{output.name}.tmp")
        draft.write_text(made, encoding="utf-8")
        draft.replace(output)
    except OSError as error:
        raise CouldNotRun(f"{output} cannot be written: {error.strerror}") from error
