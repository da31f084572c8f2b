# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness validate`: whether kernels, and the suites that judge them, are worth their names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from harness import paths
from harness.cli import flags, output
from harness.errors import UsageError
from harness.machine import record
from harness.machine.parts import Store
from harness.outcome import Exit
from harness.provision import kernel
from harness.provision.cache import digest
from harness.provision.kbuild import arch
from harness.provision.kbuild import build as building
from harness.provision.kbuild.order import Order
from harness.provision.kbuild.source import plain
from harness.report import validation
from harness.text import printable
from harness.validate import campaign, steps
from harness.validate import mutants as examination
from harness.validate.campaign import Target
from harness.validate.mutants import Examined, Mutant

app = typer.Typer(help="Say of every patch of a series whether it builds, boots and breaks a test.")

_KERNEL = "mutant"
"""Under this name each mutant's kernel is built, in place of the one before: nobody needs it any longer."""
_BROKEN = {"sriov": "7.3-base", "siov": "7.3-siov"}
"""The kernel, by its recipe, that the mutants of a suite are patches for: it has what they break."""
_NAMES = "Only these mutants (default: all)."
_TREE = "The tree that the patches are for: a folder (git or plain), or debian:VERSION."
_SERIES = "The patches: an mbox, a patch, a folder of numbered patches, or a range of commits in --source."
_BASE = "The commit that they are for (default: the series' base-commit, or the tree as it stands)."
_KERNELS = (
    "Configuration to build and test each step in: base, siov, debug, siov+debug, ... (repeatable; default: base)."
)
_CROSS = "Compile each step for this architecture, too: powerpc, s390 (repeatable)."
_MATRIX = "Compile each step with and without PCI_IOV and PCI_SIOV, too."
_TESTS = "Files or folders of tests (repeatable; default: tests/guest/sriov and tests/guest/siov)."
_PROFILES = "Only the tests on these machines (repeatable)."
_SCHEDULER = "Run the tests on this Dask cluster, such as tcp://10.0.0.1:8786 (see docs/scale.md)."
_SUITES = ("tests/guest/sriov", "tests/guest/siov")
_SUITE = "Only those of one suite: a folder of tests/mutants, and of tests/guest (default: all)."
_SOURCE = "The kernel's source: a folder, or debian:VERSION (default: that of 7.3-base)."


@app.callback(invoke_without_command=True)
def validate(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help=_TREE)] = None,
    series: Annotated[str | None, typer.Option(metavar="MBOX|DIR|RANGE", help=_SERIES)] = None,
    base: Annotated[str | None, typer.Option(metavar="REV", help=_BASE)] = None,
    kernels: Annotated[list[str] | None, typer.Option(metavar="CONFIG", help=_KERNELS)] = None,
    cross: Annotated[list[str] | None, typer.Option(metavar="ARCH", help=_CROSS)] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help=_MATRIX)] = False,
    tests: Annotated[list[str] | None, typer.Option(metavar="FILES", help=_TESTS)] = None,
    profiles: Annotated[list[str] | None, typer.Option(metavar="PROFILE", help=_PROFILES)] = None,
    qemu: flags.Qemu = None,
    guests: Annotated[int, typer.Option("-n", min=1, help="Guests at once, where there is no --scheduler.")] = 2,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help=_SCHEDULER)] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=0, help="Compile so many files at once (0: all cores).")] = 0,
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
        qemu=qemu, guests=guests, scheduler=scheduler, jobs=jobs, fresh=fresh,
    )  # fmt: skip
    if json:
        typer.echo(found.model_dump_json(by_alias=True, indent=1))
    else:
        typer.echo(validation.render(found), nl=False)
    output.console(stderr=True).print(f"harness report {state} --format html -o series.html shows all of it")
    raise typer.Exit(found.code)


def targets_of(kernels: list[str] | None, cross: list[str] | None, *, matrix: bool) -> list[Target]:
    """Give the configurations that each step is built in; raises `UsageError`."""
    found = [Target(_fragments(name)) for name in kernels or ["base"]]
    found += [Target(found[0].fragments, arch=arch.foreign(name), boots=False) for name in cross or ()]
    if matrix:
        both = [(), ("siov",), ("no-iov",), ("siov", "no-iov")]
        there = {frozenset(one.fragments) for one in found if one.arch is None}
        found += [Target(one, boots=False) for one in both if frozenset(one) not in there]
    return found


def _fragments(name: str) -> tuple[str, ...]:
    return tuple(one for one in name.split("+") if one != "base")


def _validated(
    store: Store, source: str, series: str, base: str | None, targets: list[Target], tests: list[str] | None,
    profiles: list[str] | None, *, qemu: Path | None, guests: int, scheduler: str | None, jobs: int, fresh: bool,
) -> tuple[validation.Validation, Path]:  # fmt: skip
    asked = _files(tests or _SUITES)
    options = [word for name in profiles or () for word in ("--profile", store.library.get(name).name)]
    options += ["--qemu", str(qemu)] if qemu else []
    top = paths.output() / "validate"
    with record.told(top):
        top.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".reading-", dir=top) as scratch:
        read = steps.read(store.cache, source, series, base, Path(scratch))
        key = digest(read.key, [one.name for one in targets], asked, options)[:12]
    state = top / f"{plain(Path(series).stem)}-{key}"
    with store.cache.locked(f"locks/validate-{key}"):
        if fresh:
            shutil.rmtree(state, ignore_errors=True)
        state.mkdir(exist_ok=True)
        read = steps.read(store.cache, source, series, base, state)
        if read.note:
            output.console(stderr=True).print(f"note: {read.note}")
        order = campaign.Order(read, Path(series).name, source, targets, asked, tuple(options), guests, scheduler, jobs)
        return campaign.validate(store, order, state, _say), state


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


def _say(line: str) -> None:
    output.console(stderr=True).print(printable(line), soft_wrap=True, markup=False)


@app.command("mutants")
def mutants(
    names: Annotated[list[str] | None, typer.Argument(metavar="MUTANTS", help=_NAMES)] = None,
    suite: Annotated[str | None, typer.Option(help=_SUITE)] = None,
    source: Annotated[str | None, typer.Option(help=_SOURCE)] = None,
    workers: Annotated[int, typer.Option("-n", min=1, help="Workers for the tests.")] = 2,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=0, help="Compile so many files at once (0: all cores).")] = 0,
    list_: Annotated[bool, typer.Option("--list", help="Run nothing: print which mutants there are.")] = False,
    json: flags.Json = False,
) -> None:
    """Build kernels with one deliberate mistake each, and see whether the suite notices.

    Each is built from what the one before left, and tested until a test fails: a minute each. What fails on it must not
    fail without it. Exits 0 if all are killed, 1 if one survives, 4 if one could not be examined.
    """
    chosen = examination.chosen(examination.known(suite), names or ())
    if list_:
        _list(chosen, as_json=json)
        return
    store = flags.store()
    with store.cache.locked(f"locks/{_KERNEL}"):
        found = [one for group in _by_suite(chosen) for one in _examined(store, group, source, workers, jobs)]
    if json:
        flags.print_json({"mutants": [_plain(one) for one in found]})
    else:
        output.table("mutant", "killed by", "what is wrong with it", rows=[_row(one) for one in found])
        killed = sum(one.killed_by is not None for one in found)
        output.console().print(f"{len(found)} mutants: {killed} killed, {sum(one.survived for one in found)} survived")
    raise typer.Exit(_code(found))


def _by_suite(chosen: Sequence[Mutant]) -> Iterator[list[Mutant]]:
    for _, group in groupby(sorted(chosen, key=lambda one: one.suite), key=lambda one: one.suite):
        yield list(group)


def _examined(
    store: Store, chosen: Sequence[Mutant], source: str | None, workers: int, jobs: int
) -> Sequence[Examined]:
    """Examine mutants of one suite, and hold what killed them against the kernel that they break."""
    suite = chosen[0].suite
    name, order = _without(suite, source)

    def build(mutant: Mutant) -> str:
        mutated = replace(order, series=(*order.series, mutant.path))
        building.build(store.cache, store.apt, _KERNEL, mutated, jobs=jobs)
        return _KERNEL

    found: list[Examined] = []
    started = time.monotonic()
    for one in examination.examine(chosen, build, f"tests/guest/{suite}", workers=workers):
        found.append(one)
        _tell(one, f"{len(found)} of {len(chosen)}, after {(time.monotonic() - started) / 60:.1f} min")
    building.provide(store.cache, store.apt, name, order)
    return examination.confirmed(found, name, workers=workers)


def _without(suite: str, source: str | None) -> tuple[str, Order]:
    """Give the kernel that a suite's mutants break: its name, and what it is made of."""
    name = _BROKEN[suite]
    order = kernel.order(name)
    if source is None:
        return name, order
    order = replace(order, source=source)
    return order.default_name, order


def _list(chosen: Sequence[Mutant], *, as_json: bool) -> None:
    if as_json:
        listed = [{"name": one.name, "suite": one.suite, "subject": one.subject} for one in chosen]
        flags.print_json({"mutants": listed})
        return
    output.table(
        "mutant", "suite", "what is wrong with it", rows=[(one.name, one.suite, one.subject) for one in chosen]
    )


def _tell(one: Examined, progress: str) -> None:
    output.console(stderr=True).print(f"{one.mutant.name}: {_fate(one)} ({progress})")


def _fate(one: Examined) -> str:
    return one.killed_by or (f"not examined: {one.trouble}" if one.trouble else "SURVIVED")


def _row(one: Examined) -> tuple[str, str, str]:
    return one.mutant.name, _fate(one), one.mutant.subject


def _plain(one: Examined) -> dict[str, object]:
    return {
        "name": one.mutant.name, "suite": one.mutant.suite, "killed_by": one.killed_by, "survived": one.survived,
        "reason": one.reason, "trouble": one.trouble, "subject": one.mutant.subject,
    }  # fmt: skip


def _code(found: list[Examined]) -> int:
    if any(one.survived for one in found):
        return Exit.FAIL
    return Exit.ERROR if any(one.trouble for one in found) else Exit.OK
