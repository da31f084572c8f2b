# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness bench`: what the harness costs."""

from __future__ import annotations

import statistics
from typing import Annotated

import typer

from harness.bench import boot as booting
from harness.cli import complete, flags, output
from harness.machine import record

app = typer.Typer(no_args_is_help=True, help="Measure what the harness costs.")


@app.callback()
def bench() -> None:
    """Measure what the harness costs."""


@app.command()
def boot(
    profile: Annotated[str, typer.Option(help="The machine to boot.", autocompletion=complete.profiles)] = "minimal",
    count: Annotated[int, typer.Option(min=1, help="How many boots.")] = 5,
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    json: flags.Json = False,
) -> None:
    """Measure a cold boot, from the start of QEMU to the result of the first SSH command."""
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel)
    spec = flags.spec(store, profile, None)
    console = output.console(stderr=True)
    times = []
    run = record.new_run()
    for number, seconds in enumerate(booting.seconds(flags.starter(store, run), spec, run, count), 1):
        times.append(seconds)
        console.print(f"boot {number} of {count}: {seconds:.2f} s")
    if json:
        flags.print_json(booting.result(spec, times))
    else:
        typer.echo(f"median {statistics.median(times):.2f} s, {min(times):.2f} to {max(times):.2f} s, of {count} boots")
