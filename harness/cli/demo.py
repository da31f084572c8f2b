# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness demo`: see it work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import typer
from rich.text import Text

from harness import demo as showing
from harness.cli import flags, output
from harness.machine import record
from harness.outcome import Exit, Outcome


def demo(
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    cold: flags.Cold = False,
    json: flags.Json = False,
) -> None:
    """Start an NVMe and an igb machine side by side, enable their VFs, and check what must hold."""
    started = time.monotonic()
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel)
    specs = [flags.spec(store, profile, None) for profile in showing.PROFILES]
    flags.announce(specs[0].parts)
    run = record.new_run()
    starter = flags.starter(store, run, cold=cold)
    starter.prepare(specs)
    output.console(stderr=True).print(f"starting {' and '.join(showing.PROFILES)} ...")
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(showing.show, starter, spec, record.folder_for(run, spec.profile.name)) for spec in specs]
        shown = [job.result() for job in jobs]
    passed = all(check.outcome is Outcome.PASS for one in shown for check in one.checks)
    if json:
        flags.print_json({"run": run, "ok": passed, "machines": [asdict(one) for one in shown]})
    else:
        _print(shown, time.monotonic() - started)
    if not passed:
        raise typer.Exit(Exit.FAIL)


def _print(shown: list[showing.Shown], seconds: float) -> None:
    console = output.console()
    for one in shown:
        after = f": up after {one.start_seconds:.1f} s. PCI before, and with all VFs enabled:"
        console.print(Text.assemble((one.profile, "bold"), after))
        console.print(one.before.rstrip())
        console.print(one.after)
    output.table("profile", "check", "verdict", "s", rows=_rows(shown))
    console.print(f"in all {seconds:.1f} s")


def _rows(shown: list[showing.Shown]) -> Iterator[tuple[output.Cell, ...]]:
    for one in shown:
        yield one.profile, "comes up", Text("PASS", "green"), f"{one.start_seconds:.2f}"
        for check in one.checks:
            colour = "green" if check.outcome is Outcome.PASS else "red"
            text = f"{check.claim}: {check.reason}" if check.reason else check.claim
            yield one.profile, text, Text(str(check.outcome), colour), f"{check.seconds:.2f}"
