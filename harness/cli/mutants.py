# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness validate mutants`: whether the suites notice kernels that are wrong on purpose."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Annotated

import typer

from harness.cli import flags, output
from harness.cli.series import Jobs
from harness.machine.parts import Store
from harness.outcome import Exit
from harness.provision import kernel
from harness.provision.kbuild import build as building
from harness.provision.kbuild.order import Order
from harness.validate import mutants as examination
from harness.validate.mutants import Examined, Mutant

_KERNEL = "mutant"
"""Under this name each mutant's kernel is built, in place of the one before: nobody needs it any longer."""
_BROKEN = {"sriov": "7.3-base", "siov": "7.3-siov"}
"""The kernel, by its recipe, that the mutants of a suite are patches for: it has what they break."""
_NAMES = "Only these mutants (default: all)."
_SUITE = "Only those of one suite: a folder of tests/mutants, and of tests/guest (default: all)."
_SOURCE = "The kernel's source: a folder, or debian:VERSION (default: that of 7.3-base)."


def mutants(
    names: Annotated[list[str] | None, typer.Argument(metavar="MUTANTS", help=_NAMES)] = None,
    suite: Annotated[str | None, typer.Option(help=_SUITE)] = None,
    source: Annotated[str | None, typer.Option(help=_SOURCE)] = None,
    workers: Annotated[int, typer.Option("-n", min=1, help="Workers for the tests.")] = 2,
    jobs: Jobs = 0,
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
