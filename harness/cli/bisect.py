# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness validate bisect`: which patch, or commit, broke a test."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from harness.cli import flags, output
from harness.cli.series import CONFIGS, PATCHES, SERIES, TREE, Base, Jobs, fragments
from harness.cli.targets import Targets
from harness.errors import UsageError
from harness.outcome import Verdict
from harness.provision.kbuild import build as building
from harness.text import printable
from harness.validate import bisect as bisection
from harness.validate import steps
from harness.validate.run import run_tests
from harness.validate.steps import Step

_BISECTED = "bisected"
"""Under this name each kernel is built, in place of the one before."""
_CONFIG = f"Configuration to build in: {CONFIGS}."


def bisect(
    source: Annotated[str, typer.Option(help=TREE)],
    test: Annotated[str, typer.Option(metavar="ID", help="The test, such as tests/.../test_numvfs.py::test_x[igb].")],
    series: Annotated[str | None, typer.Option(metavar=PATCHES, help=SERIES)] = None,
    good: Annotated[str | None, typer.Option(metavar="REV", help="A commit on which it passes.")] = None,
    bad: Annotated[str | None, typer.Option(metavar="REV", help="A commit on which it fails.")] = None,
    base: Base = None,
    kernels: Annotated[str, typer.Option(metavar="CONFIG", help=_CONFIG)] = "base",
    qemu: flags.Qemu = None,
    jobs: Jobs = 0,
    json: flags.Json = False,
) -> None:
    """Find the patch of a series, or the commit between two, that broke a test. Exits 0 if it is found.

    Each kernel is asked four times: a test that does not always say the same there ends it, with its rate.
    """
    if (series is None) == (good is None or bad is None):
        raise UsageError("give either --series, or --good REV and --bad REV of a git tree")
    Targets.of([test])  # a mistake in its name is told before anything is built
    store = flags.store(qemu=qemu)
    options = ["--qemu", str(qemu)] if qemu else []
    with TemporaryDirectory(prefix="iov-harness-bisect-") as scratch, store.cache.locked(f"locks/{_BISECTED}"):
        read = steps.read(store.cache, source, series or f"{good}..{bad}", base, Path(scratch))
        built: list[Step] = []

        def ask(step: Step) -> Verdict | None:
            if step not in built[-1:]:
                building.build(store.cache, store.apt, _BISECTED, step.built_as(fragments(kernels)), jobs=jobs)
                built.append(step)
            said = run_tests(_BISECTED, [test], *options).verdicts
            if len(said) > 1:
                cases = ", ".join(one.test.partition("::")[2] for one in said[:4])
                raise UsageError(f"--test {test}: {len(said)} cases; give one of them: {cases}, ...")
            return next(iter(said), None)

        found = bisection.bisect(read.steps, ask, output.say)
    among = [one.title for one in found.among]
    if json:
        flags.print_json({"step": found.step.number, "title": found.step.title, "reason": found.reason, "among": among})
    else:
        output.console().print(
            f"{test} fails from here on: {found.step.title}\n{printable(found.reason)}", markup=False
        )
        if len(among) > 1:
            output.console().print(f"or from one of these, which told nothing: {', '.join(among[:-1])}", markup=False)
