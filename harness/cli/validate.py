# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness validate`: whether kernels, and the suites that judge them, are worth their names."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from harness.cli import flags, output
from harness.outcome import Exit
from harness.provision.kbuild import build as building
from harness.provision.kbuild.order import Order
from harness.validate import mutants as examination
from harness.validate.mutants import Examined, Mutant

app = typer.Typer(no_args_is_help=True, help="Hold the suites against kernels that are known to be wrong.")

_KERNEL = "mutant"
"""Under this name each mutant's kernel is built, in place of the one before: nobody needs it any longer."""
_NAMES = "Only these mutants (default: all of the suite)."
_SOURCE = "The kernel's source: a folder, or debian:VERSION."


@app.callback()
def validate() -> None:
    """Hold the suites against kernels that are known to be wrong."""


@app.command("mutants")
def mutants(
    names: Annotated[list[str] | None, typer.Argument(metavar="MUTANTS", help=_NAMES)] = None,
    suite: Annotated[str, typer.Option(help="Whose mutants: a folder of tests/mutants, and of tests/guest.")] = "sriov",
    source: Annotated[str, typer.Option(help=_SOURCE)] = "debian:7.3",
    workers: Annotated[int, typer.Option("-n", min=1, help="Workers for the tests.")] = 2,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=0, help="Compile so many files at once (0: all cores).")] = 0,
    json: flags.Json = False,
) -> None:
    """Build kernels with one deliberate mistake each, and see whether the suite notices.

    Each is built from what the one before left, and tested until a test fails: a minute each. What fails on it must not
    fail without it. Exits 0 if all are killed, 1 if one survives, 4 if one could not be examined.
    """
    chosen = examination.chosen(examination.known(suite), names or ())
    store = flags.store()

    def build(mutant: Mutant) -> str:
        building.build(store.cache, store.apt, _KERNEL, Order(source, (mutant.path,)), jobs=jobs)
        return _KERNEL

    with store.cache.locked(f"locks/{_KERNEL}"):
        found = []
        started = time.monotonic()
        for one in examination.examine(chosen, build, f"tests/guest/{suite}", workers=workers):
            found.append(one)
            _tell(one, f"{len(found)} of {len(chosen)}, after {(time.monotonic() - started) / 60:.1f} min")
        plain = Order(source)
        building.provide(store.cache, store.apt, plain.default_name, plain)
        found = examination.confirmed(found, plain.default_name, workers=workers)
    if json:
        flags.print_json({"mutants": [_plain(one) for one in found]})
    else:
        output.table("mutant", "killed by", "what is wrong with it", rows=[_row(one) for one in found])
        killed = sum(one.killed_by is not None for one in found)
        output.console().print(f"{len(found)} mutants: {killed} killed, {sum(one.survived for one in found)} survived")
    raise typer.Exit(_code(found))


def _tell(one: Examined, progress: str) -> None:
    output.console(stderr=True).print(f"{one.mutant.name}: {_fate(one)} ({progress})")


def _fate(one: Examined) -> str:
    return one.killed_by or (f"not examined: {one.trouble}" if one.trouble else "SURVIVED")


def _row(one: Examined) -> tuple[str, str, str]:
    return one.mutant.name, _fate(one), one.mutant.subject


def _plain(one: Examined) -> dict[str, object]:
    return {
        "name": one.mutant.name, "killed_by": one.killed_by, "survived": one.survived, "reason": one.reason,
        "trouble": one.trouble, "subject": one.mutant.subject,
    }  # fmt: skip


def _code(found: list[Examined]) -> int:
    if any(one.survived for one in found):
        return Exit.FAIL
    return Exit.ERROR if any(one.trouble for one in found) else Exit.OK
