# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness shell`: a prompt in a guest."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli import complete, flags, output, terminal
from harness.errors import GuestFailure, UsageError
from harness.machine import record
from harness.machine.machine import Machine, booted
from harness.qemu import options
from harness.qemu.template import Wiring

_BY_HAND_PORT = 2222
_DAY = 24 * 3600.0
_PROFILE = "The machine to boot; see `harness profiles`."


def shell(
    profile: Annotated[str, typer.Argument(help=_PROFILE, autocompletion=complete.profiles)],
    command: Annotated[list[str] | None, typer.Argument(help="Run this instead of a prompt (after --).")] = None,
    param: flags.Parameters = None,
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    profile_dir: flags.ProfileDir = None,
    ssh_port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback for SSH (0: any).")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print QEMU's command line, ready to paste.")] = False,
) -> None:
    """Boot a guest and give a prompt in it; the machine ends with the prompt."""
    if not dry_run:
        _check_free(ssh_port)
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel, profile_dir=profile_dir)
    machine_spec = flags.spec(store, profile, param)
    if dry_run:
        wiring = Wiring.for_hand(Path.cwd(), ssh_port or _BY_HAND_PORT)
        typer.echo(options.shell(str(machine_spec.parts.qemu.path), machine_spec.command_line(wiring)))
        return
    flags.announce(machine_spec.parts)
    output.console(stderr=True).print(f"booting {profile} ...")
    directory = record.folder_for(record.new_run(), f"shell-{profile}")
    with booted(machine_spec, directory, store.settings.boot_timeout, ssh_port=ssh_port) as machine:
        if command:
            raise typer.Exit(_run(machine, command))
        if not sys.stdin.isatty():
            raise typer.Exit(_run(machine, ["sh", "-c", sys.stdin.read()]))
        _introduce(output.console(stderr=True), machine)
        terminal.interact(machine.session)


def _run(machine: Machine, command: list[str]) -> int:
    """Run a command, showing its output as it comes, and what the kernel complained of meanwhile."""
    try:
        with terminal.shown() as tell:
            return machine.session.run(command, timeout=_DAY, tell=tell).status
    finally:
        with suppress(GuestFailure):  # what is wrong with the guest is on its way to the user already
            machine.drain()
        for report in machine.console.reports():
            output.console(stderr=True).print(f"the kernel reported {report.kind}: {report.title}", markup=False)


def _introduce(console: Console, machine: Machine) -> None:
    key = machine.spec.parts.keys.login
    port = machine.session.port
    unpinned = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    console.print(f"ssh:     ssh -i {key} -p {port} {unpinned} root@127.0.0.1")
    console.print(f"qmp:     {machine.debug_socket}")
    console.print(f"console: {machine.directory / 'console.log'}")
    console.print("The machine ends with this prompt (exit or Ctrl-D).")


def _check_free(port: int) -> None:
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(f"--ssh-port {port}: {error.strerror}; choose another, or 0 for any free one") from error
