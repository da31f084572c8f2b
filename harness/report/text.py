# SPDX-License-Identifier: GPL-2.0-or-later
"""A run in plain text, fit for a reply on a mailing list."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.outcome import Outcome
from harness.report.run import BAD, Result, Run
from harness.text import count, printable

WIDTH = 78
"""Columns that mail can have and still be quoted once or twice."""
_TOLD = 20
"""Tests told of one outcome; the others are counted."""


@dataclass(frozen=True)
class Reply:
    """What the summary is an answer to: a mail's Message-ID and subject."""

    message_id: str
    subject: str

    def headers(self) -> str:
        """Give the headers that keep the answer in its thread (RFC 5322, 3.6.4)."""
        message_id = f"<{self.message_id.strip().strip('<>')}>"
        subject = self.subject if self.subject.lower().startswith("re:") else f"Re: {self.subject}"
        return f"Subject: {subject}\nIn-Reply-To: {message_id}\nReferences: {message_id}\n\n"


def render(runs: Sequence[Run], reply: Reply | None = None) -> str:
    """Give the summary of runs, one after another."""
    said = "\n".join("\n".join(_run(run)) + "\n" for run in runs)
    return (reply.headers() if reply else "") + printable(said)


def _run(run: Run) -> Iterator[str]:
    machine = run.machine
    yield f"{run.kernel}: {run.summary} ({count(len(run.results), 'test')}, {run.seconds:.0f} s)"
    if machine:
        yield f"  kernel  {machine.get('release') or 'release unknown'}, {machine.get('kernel_origin')}"
        yield f"  QEMU    {machine.get('qemu')}, {machine.get('qemu_origin')}, {machine.get('accel')}"
    for outcome in (*BAD, Outcome.KNOWN):
        found = [one for one in run.results if one.verdict.outcome is outcome]
        if found:
            yield ""
        for one in found[:_TOLD]:
            yield from _result(one)
        if len(found) > _TOLD:
            yield f"{outcome}  and {len(found) - _TOLD} more"


def _result(result: Result) -> Iterator[str]:
    verdict = result.verdict
    yield f"{verdict.outcome}  {verdict.test}"
    reason = f"{verdict.reason}{f' (stage {verdict.stage})' if verdict.stage else ''}"
    yield from textwrap.wrap(reason, WIDTH, initial_indent="  ", subsequent_indent="  ")
    if verdict.outcome is Outcome.FAIL:
        yield f"  again: {result.again}"
