# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness demo`: see it work."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from harness import demo as showing
from harness.cli import flags
from harness.machine import record
from harness.outcome import Exit, Outcome


def demo(
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    json: flags.Json = False,
) -> None:
    """Boot an NVMe and an igb machine side by side, enable their VFs, and check what must hold."""
    started = time.monotonic()
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel)
    specs = [flags.spec(store, profile, None) for profile in showing.PROFILES]
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    parts = specs[0].parts
    notes.print(f"QEMU {parts.qemu.version} ({parts.qemu.origin}), {parts.accel.name}: {parts.accel.reason}")
    notes.print(f"booting {' and '.join(showing.PROFILES)} on {parts.kernel.release or parts.kernel.name} ...")
    run = record.new_run()
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(showing.show, spec, record.folder_for(run, spec.profile.name), store.settings.boot_timeout)
            for spec in specs
        ]
        shown = [job.result() for job in jobs]
    passed = all(check.outcome is Outcome.PASS for one in shown for check in one.checks)
    if json:
        flags.print_json({"run": run, "ok": passed, "machines": [asdict(one) for one in shown]})
    else:
        _print(shown, time.monotonic() - started)
    if not passed:
        raise typer.Exit(Exit.FAIL)


def _print(shown: list[showing.Shown], seconds: float) -> None:
    console = Console(highlight=False)
    table = Table("profile", "check", "verdict", "s", box=None, pad_edge=False)
    for one in shown:
        console.print(
            f"[bold]{one.profile}[/]: SSH after {one.boot_seconds:.1f} s. PCI before, and with all VFs enabled:"
        )
        console.print(one.before.rstrip(), markup=False)
        console.print(one.after, markup=False)
        table.add_row(one.profile, "boots to SSH", "[green]PASS[/]", f"{one.boot_seconds:.2f}")
        for check in one.checks:
            colour = "green" if check.outcome is Outcome.PASS else "red"
            text = f"{check.claim}: {check.reason}" if check.reason else check.claim
            table.add_row(one.profile, text, f"[{colour}]{check.outcome}[/]", f"{check.seconds:.2f}")
    console.print(table)
    console.print(f"in all {seconds:.1f} s")
