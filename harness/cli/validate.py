# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness validate`: a verdict for every patch of a series; and whether the suites that give it are worth theirs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from harness import paths
from harness.cli import bisect, flags, mutants, output
from harness.cli.series import CONFIGS, PATCHES, SERIES, TREE, Base, Jobs, fragments
from harness.errors import UsageError
from harness.machine import record, room
from harness.machine.parts import Store
from harness.outcome import Exit
from harness.provision.cache import digest
from harness.provision.kbuild import arch
from harness.provision.kbuild.fragments import read as fragments_of
from harness.provision.kbuild.source import plain
from harness.report import validation
from harness.report.run import AGAIN, repeated_by
from harness.validate import campaign, steps
from harness.validate.order import Order, Target

app = typer.Typer(help="Say of every patch of a series whether it builds, boots and breaks a test.")
app.command("bisect")(bisect.bisect)
app.command("mutants")(mutants.mutants)

_KERNELS = f"Configuration to build and test each step in: {CONFIGS} (repeatable; default: base)."
_CROSS = "Compile each step for this architecture, too: powerpc, s390 (repeatable)."
_MATRIX = "Compile each step with and without PCI_IOV and PCI_SIOV, too."
_TESTS = "Files or folders of tests (repeatable; default: tests/guest/sriov and tests/guest/siov)."
_PROFILES = "Only the tests on these machines (repeatable)."
_GUESTS = "Guests at once, where there is no --scheduler (0: three for two cores, as memory allows)."
_A_CORE = 1.5
"""Guests for a core: with one each, a fourth of the time nothing runs, while cells begin and end and guests wait."""
_SCHEDULER = "Run the tests on this Dask cluster, such as tcp://10.0.0.1:8786 (see docs/scale.md)."
_SUITES = ("tests/guest/sriov", "tests/guest/siov")


@app.callback(invoke_without_command=True)
def validate(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help=TREE)] = None,
    series: Annotated[str | None, typer.Option(metavar=PATCHES, help=SERIES)] = None,
    base: Base = None,
    kernels: Annotated[list[str] | None, typer.Option(metavar="CONFIG", help=_KERNELS)] = None,
    cross: Annotated[list[str] | None, typer.Option(metavar="ARCH", help=_CROSS)] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help=_MATRIX)] = False,
    tests: Annotated[list[str] | None, typer.Option(metavar="FILES", help=_TESTS)] = None,
    profiles: Annotated[list[str] | None, typer.Option(metavar="PROFILE", help=_PROFILES)] = None,
    qemu: flags.Qemu = None,
    guests: Annotated[int, typer.Option("-n", min=0, help=_GUESTS)] = 0,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help=_SCHEDULER)] = None,
    jobs: Jobs = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier one of the same found out.")] = False,
    json: flags.Json = False,
) -> None:
    """Build the base and the tree after each patch, run the tests on each, and say what every patch changed.

    The same command goes on where an earlier one was cut off. Exits 0 all well, 1 a patch is bad (it does not build or
    boot, makes the kernel complain, or breaks a test), 4 something could not be told.
    """
    if context.invoked_subcommand is not None:
        return
    if source is None and series is None:
        typer.echo(context.get_help())
        raise typer.Exit(Exit.USAGE)
    if source is None or series is None:
        raise UsageError(
            "--source TREE and --series MBOX, DIR or RANGE go together: what the patches are for, and they"
        )
    found, state = _validated(
        flags.store(qemu=qemu), source, series, base, targets_of(kernels, cross, matrix=matrix), tests, profiles,
        qemu=qemu, guests=guests or room.guests(for_each_core=_A_CORE), scheduler=scheduler, jobs=jobs, fresh=fresh,
    )  # fmt: skip
    if json:
        typer.echo(found.model_dump_json(by_alias=True, indent=1))
    else:
        typer.echo(validation.render(found), nl=False)
    console = output.console(stderr=True)
    for left in [one.record for step in found.steps[1:] for one in step.broken if one.record][:AGAIN]:
        console.print(f"again: {repeated_by(state / left)}")
    console.print(f"harness report {paths.shown(state)} --format html -o series.html shows all of it")
    raise typer.Exit(found.code)


def targets_of(kernels: list[str] | None, cross: list[str] | None, *, matrix: bool) -> list[Target]:
    """Give the configurations that each step is built in; raises `UsageError`."""
    found = [Target(fragments(name)) for name in kernels or ["base"]]
    found += [Target(found[0].fragments, arch=arch.foreign(name), boots=False) for name in cross or ()]
    if matrix:
        both = [(), ("siov",), ("no-iov",), ("siov", "no-iov")]
        there = {frozenset(one.fragments) for one in found if one.arch is None}
        found += [Target(one, boots=False) for one in both if frozenset(one) not in there]
    for one in found:
        fragments_of(one.fragments)  # all of it is right, or nothing is built
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"--kernels: two configurations are called {twice}; give each once, and files of one name another"
        )
    return found


def _validated(
    store: Store, source: str, series: str, base: str | None, targets: list[Target], tests: list[str] | None,
    profiles: list[str] | None, *, qemu: Path | None, guests: int, scheduler: str | None, jobs: int, fresh: bool,
) -> tuple[validation.Validation, Path]:  # fmt: skip
    asked = _files(tests or _SUITES)
    selection = [word for name in profiles or () for word in ("--profile", store.library.get(name).name)]
    options = ["--qemu", str(store.settings.qemu)] if qemu else []
    with TemporaryDirectory(prefix="iov-harness-series-") as scratch:
        read = steps.read(store.cache, source, series, base, Path(scratch))
        inputs = [targets_key(targets), asked, _tests_key(asked), options, selection]
        key = digest(read.key, inputs)[:12]
    state = paths.output() / "validate" / f"{plain(Path(series).stem)}-{key}"
    with store.cache.locked(f"locks/validate-{key}"):
        if fresh:
            shutil.rmtree(state, ignore_errors=True)
        with record.told(state.parent):
            state.mkdir(parents=True, exist_ok=True)
        record.point_latest_to(state)
        read = steps.read(store.cache, source, series, base, state)
        if read.note:
            output.console(stderr=True).print(f"note: {read.note}")
        order = Order(
            read, Path(series).name, source, targets, asked, tuple(options), tuple(selection), guests, scheduler, jobs
        )
        return campaign.validate(store, order, state, output.say), state


def targets_key(targets: Sequence[Target]) -> list[object]:
    """Give what tells configurations from others: fragments that are files by what they say."""
    return [[one.name, [Path(name).read_text() for name in one.fragments if "/" in name]] for one in targets]


def _tests_key(asked: Sequence[str]) -> str:
    """Give what tells these tests from what they are after an edit: their files, and those beside them."""
    folders = {(paths.data_root() / name).parent for name in asked}
    return digest([[str(path), path.read_text()] for folder in sorted(folders) for path in sorted(folder.glob("*.py"))])


def _files(tests: Sequence[str]) -> list[str]:
    """Give every file of tests in folders and files that are the user's or the harness's; raises `UsageError`."""
    found: list[str] = []
    for name in tests:
        here, own = Path(name).absolute(), paths.data_root() / name
        top = here if here.exists() else own
        if not top.exists():
            raise UsageError(f"--tests {name}: no such test file or folder, here or among the harness's own tests")
        files = sorted(top.rglob("test_*.py")) if top.is_dir() else [top]
        root = paths.data_root()
        found += [str(file.relative_to(root)) if file.is_relative_to(root) else str(file) for file in files]
    if not found:
        raise UsageError(f"--tests {' '.join(tests)}: no test_*.py there")
    return list(dict.fromkeys(found))
