# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness bench`: what the harness costs."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness import paths
from harness.bench import clones as clones_of
from harness.bench import figures
from harness.bench.figures import Figure, Results
from harness.bench.measure import Measurement, Plan
from harness.cli import complete, flags, output
from harness.errors import UsageError
from harness.machine import record
from harness.outcome import Exit

app = typer.Typer(help="Measure what the harness costs.")


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="How often to measure what is short.")] = 10,
    clones: Annotated[int, typer.Option(min=1, help="How many clones to start, four at a time.")] = 100,
    suite: Annotated[bool, typer.Option("--suite", help="Also run the SR-IOV suite, with clones and cold.")] = False,
    compare: Annotated[Path | None, typer.Option(help="An earlier output of --json: tell what got slower.")] = None,
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    json: flags.Json = False,
) -> None:
    """Measure cold boots, checkpoints and clones: medians with their spread, and plots in build/bench.

    Exits 1 where a clone was lost, or anything was left of one; with --compare also where a figure got worse.
    """
    if context.invoked_subcommand is not None:
        if any((suite, compare, kernel, modules, qemu, accel, json)):
            raise UsageError(f"flags come after the word: harness bench {context.invoked_subcommand} --kernel ...")
        return
    before = None if compare is None else _read(compare)
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel)
    run = record.new_run()
    specs = functools.cache(lambda profile: flags.spec(store, profile, None))  # each asks QEMU what it has
    plan = Plan(specs, flags.starter(store, run), run, count, clones)
    minimal = plan.spec("minimal")
    if before is not None:
        figures.check_comparable(minimal.about(), before)
    flags.announce(minimal.parts)
    measurement = Measurement(plan, store.settings.boot_timeout, output.console(stderr=True).print)
    results = measurement.all(suite=_flags_of(kernel, modules, qemu, accel) if suite else None)
    from harness.bench import plot

    pictures = plot.draw(results, paths.output() / "bench")
    slower = [] if before is None else list(figures.worse(results, before))
    if json:
        flags.print_json({**results.model_dump(), **figures.flat(results), "wrong": measurement.wrong, "worse": slower})
    else:
        _print(results, pictures)
    for line in (*measurement.wrong, *slower):
        output.console(stderr=True).print(line)
    if before is not None and not slower:
        output.console(stderr=True).print(f"nothing got worse since {compare} beyond the noise")
    if measurement.wrong or slower:
        raise typer.Exit(Exit.FAIL)


@app.command()
def boot(
    profile: Annotated[str, typer.Option(help="The machine to boot.", autocompletion=complete.profiles)] = "minimal",
    count: Annotated[int, typer.Option(min=1, help="How many boots.")] = 5,
    kernel: flags.Kernel = None,
    against: Annotated[
        str | None,
        typer.Option(help="Boot this kernel too, in turns, and give the ratio.", autocompletion=complete.kernels),
    ] = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    json: flags.Json = False,
) -> None:
    """Measure a cold boot, from the start of QEMU to the result of the first SSH command."""
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel)
    specs = [flags.spec(store, profile, None)]
    if against is not None:
        specs.append(replace(specs[0], parts=store.with_kernel(specs[0].parts, against)))
    run = record.new_run()
    times: list[list[float]] = [[] for _ in specs]
    for number, seconds in clones_of.cold_in_turns(flags.starter(store, run), specs, run, count):
        times[number].append(seconds)
        told = f"{specs[number].parts.kernel.name}: boot {len(times[number])} of {count}: {seconds:.2f} s"
        output.console(stderr=True).print(told)
    medians = [statistics.median(taken) for taken in times]
    if json:
        boots = [
            {"boot_to_ssh_s": median, "times_s": taken, "machine": spec.about()}
            for spec, taken, median in zip(specs, times, medians, strict=True)
        ]
        compared = {"against": boots[1], "ratio": medians[1] / medians[0]} if against else {}
        flags.print_json({**boots[0], **compared})
        return
    for spec, taken, median in zip(specs, times, medians, strict=True):
        spread = f"{min(taken):.2f} to {max(taken):.2f} s, of {count} boots"
        typer.echo(f"{spec.parts.kernel.name}: median {median:.2f} s, {spread}")
    if against:
        typer.echo(f"{specs[0].parts.kernel.name} boots {medians[1] / medians[0]:.2f} times as fast as {against}")


@app.command()
def devices(
    count: Annotated[int, typer.Option(min=1, help="How often to measure.")] = 10,
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    json: flags.Json = False,
) -> None:
    """Measure Python devices: configuration reads and BAR reads through QEMU, and the way into a running guest."""
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel)
    run = record.new_run()
    spec = flags.spec(store, "minimal", None)
    plan = Plan(lambda _: spec, flags.starter(store, run), run, count, 0)
    plan.starter.prepare([spec])
    measured = Measurement(plan, store.settings.boot_timeout, output.console(stderr=True).print).devices()
    if json:
        figures_of = {name: figure.model_dump() for name, figure in measured.items()}
        flags.print_json({**{name: one.median for name, one in measured.items()}, "figures": figures_of})
    else:
        _table(measured)


def _read(path: Path) -> Results:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--compare {path}: {getattr(error, 'strerror', None) or 'not a text'}") from error
    return Results.load(text, f"--compare {path}")


def _flags_of(*values: object) -> list[str]:
    names = ("--kernel", "--modules", "--qemu", "--accel")
    return [word for name, value in zip(names, values, strict=True) if value for word in (name, str(value))]


def _print(results: Results, pictures: list[Path]) -> None:
    _table(results.figures)
    for picture in pictures:
        typer.echo(str(picture))


def _table(measured: Mapping[str, Figure]) -> None:
    rows = []
    for name, figure in measured.items():
        if figure.values:
            low, high = figure.spread
            rows.append(
                (name, f"{figure.median:.3g}", f"{low:.3g} to {high:.3g}", figure.unit, str(len(figure.values)))
            )
    output.table("figure", "median", "spread", "unit", "of", rows=rows)
