# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness repro`: run a failed test again, from what it left."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from harness import paths
from harness.cli import flags, output
from harness.errors import UsageError
from harness.machine.parts import Store
from harness.outcome import Exit, exit_code
from harness.provision import kernel
from harness.provision.kbuild import build
from harness.provision.kernel import Kernel
from harness.report import bundle as bundles
from harness.report.bundle import Bundle
from harness.report.run import Result
from harness.text import printable
from harness.validate import repro as repetition
from harness.validate.run import command

_IMAGE = "kernel/bzImage"
_BUNDLE = "A test's folder in build/runs/RUN, or a file that --pack made."
_SHELL = "Stop where it fails, with prompts in the guest and in Python, and what else it can be reached by."
_PACK = "Run nothing: write all that another machine needs for it into FILE.tar.zst."
_OTHER = "Another kernel than then: does it fail there, too?"


def repro(
    bundle: Annotated[Path, typer.Argument(help=_BUNDLE)],
    shell: Annotated[bool, typer.Option("--shell", help=_SHELL)] = False,
    pack: Annotated[Path | None, typer.Option(metavar="FILE", help=_PACK)] = None,
    on: Annotated[str | None, typer.Option("--kernel", help=_OTHER)] = None,
    qemu: flags.Qemu = None,
    json: flags.Json = False,
) -> None:
    """Run a failed test again, under the conditions that it failed under.

    Exits as harness test does: 1 where it fails again, 0 where it does not.
    """
    if pack is not None and (shell or on or qemu or json):
        raise UsageError("--pack runs nothing: give it alone")
    if shell and json:
        raise UsageError("--json and --shell do not go together")
    with bundles.opened(bundle) as opened:
        store = flags.store()
        if on is not None:
            store.on(on).kernel()  # a mistake in its name is told before anything runs
        local = None if on else _local(store, str(opened.verdict.machine.get("kernel", "")))
        if pack is not None:
            _pack(store, opened, local, pack)
            return
        plan = repetition.plan(opened, paths.data_root(), local, on, None if qemu is None else str(qemu))
        for note in plan.notes:
            output.say(f"note: {note}")
        if shell:
            words = command(plan.kernel, [plan.test], *plan.options, "--pause-on-failure")
            raise typer.Exit(subprocess.run(words, check=False).returncode)
        output.say(f"running {opened.verdict.test} on {plan.kernel} ...")
        _tell(repetition.again(plan, opened), as_json=json)


def _local(store: Store, name: str) -> Kernel | None:
    """Give this machine's kernel of that name; None where it has none."""
    if not name or (build.found(store.cache, name) is None and "/" not in name):
        recipe = kernel.recipes().get(name)
        if not isinstance(recipe, kernel.Recipe):
            return None  # not built here: `harness test` builds it, where there is a recipe and nothing better
    try:
        return store.on(name).kernel()
    except UsageError:
        return None


def _pack(store: Store, opened: Bundle, local: Kernel | None, to: Path) -> None:
    if not to.name.endswith(bundles.SUFFIX):
        raise UsageError(f"--pack {to}: a bundle's name ends in {bundles.SUFFIX}")
    is_built = local is not None and build.found(store.cache, local.name) is not None
    contents = repetition.contents(opened, local if is_built else None, _IMAGE)
    more = {_IMAGE: local.image} if local is not None and contents.image else {}
    logs = Result(opened.verdict, opened.folder).logs
    if not logs.is_relative_to(opened.folder):  # of a machine that several tests shared
        more |= {f"machine/{file.name}": file for file in logs.iterdir() if file.is_file()}
    bundles.pack(opened.folder, more, contents, to)
    output.console().print(f"{to}: {decimal(to.stat().st_size)}; harness repro {to} runs the test again")


def _tell(repeated: repetition.Repeated, *, as_json: bool) -> None:
    before, now = repeated.before, repeated.now
    if as_json:
        told = None if now is None else now.model_dump(mode="json", by_alias=True)
        flags.print_json({"test": before.test, "same": repeated.is_same, "before": before.outcome, "now": told})
    else:
        lines = [f"then: {before.outcome}: {before.reason}"]
        lines.append("now:  it did not run" if now is None else f"now:  {now.outcome}: {now.reason}")
        lines += [f"note: {note}" for note in repeated.notes]
        lines.append("the same failure" if repeated.is_same else "not the same")
        for line in lines:
            output.console().print(printable(line), soft_wrap=True, markup=False)
    raise typer.Exit(Exit.EMPTY if now is None else exit_code([now.outcome]))
