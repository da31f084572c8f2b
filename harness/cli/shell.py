# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness shell`: a prompt in a guest."""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Annotated

import typer
from rich.console import Console

from harness.cli import complete, flags, output, terminal
from harness.errors import GuestFailure, HarnessError, UsageError
from harness.guest import terminal as guest_terminal
from harness.machine import live, record
from harness.machine.introspection import debug_info
from harness.machine.machine import Machine
from harness.outcome import Exit
from harness.qemu.template import Wiring
from harness.text import printable

_DAY = 24 * 3600.0
_INTROSPECT = "Print what its kernel has in mind of PCI functions, drivers and blocked tasks, instead of a prompt."
_PYTHON = "Give a Python prompt that has machine, guest, pf and the devices by name; or run what standard input has."
_PROFILE = "The machine to start; see `harness profiles`."
_SCRIPT = "/run/iov-harness-stdin"
"""Where standard input lies in the guest as a script: dropbear takes no command longer than 9000 bytes."""


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
    cold: flags.Cold = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print QEMU's command line, ready to paste.")] = False,
    introspect: Annotated[bool, typer.Option("--introspect", help=_INTROSPECT)] = False,
    python: Annotated[bool, typer.Option("--python", help=_PYTHON)] = False,
    as_json: flags.Json = False,
) -> None:
    """Start a guest and give a prompt in it; the machine ends with the prompt."""
    if as_json and not introspect:
        raise UsageError("--json goes with --introspect")
    if python and (command or introspect):
        raise UsageError("--python takes its program from standard input, alone: harness shell PROFILE --python < FILE")
    if not dry_run:
        _check_free(ssh_port)
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel, profile_dir=profile_dir)
    machine_spec = flags.spec(store, profile, param)
    if dry_run:
        wiring = Wiring.by_hand(ssh_port)
        typer.echo(machine_spec.by_hand(machine_spec.command_line(wiring), wiring))
        typer.echo(f"{live.ssh(machine_spec.parts.keys, wiring.ssh_port)}\nCtrl-A x ends it.", err=True)
        return
    if introspect:
        debug_info(machine_spec.parts.kernel)  # or it is refused before anything boots
    flags.announce(machine_spec.parts)
    run = record.new_run()
    starter = flags.starter(store, run, cold=cold)
    starter.prepare([machine_spec])
    output.console(stderr=True).print(f"starting {profile} ...")
    with starter.running(machine_spec, record.folder_for(run, f"shell-{profile}"), ssh_port=ssh_port) as machine:
        if introspect:
            raise typer.Exit(_run_and_look(machine, command, as_json=as_json))
        if python and not sys.stdin.isatty():
            raise typer.Exit(_run_python(machine))
        raise typer.Exit(
            _work(machine, command) if command or not sys.stdin.isatty() else _prompt(machine, python=python)
        )


def _run_and_look(machine: Machine, command: list[str] | None, *, as_json: bool) -> int:
    """Run what there is to run, then print what the kernel has in mind, also one that has died of it."""
    from harness.cli import introspection  # which imports drgn

    try:
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            status = _work(machine, command) if command or not sys.stdin.isatty() else int(Exit.OK)
    except GuestFailure:
        if machine.health.exit is None:
            with suppress(HarnessError, GuestFailure):  # what is wrong with the guest is on its way to the user already
                introspection.show(machine, as_json=as_json)
        raise
    introspection.show(machine, as_json=as_json)
    return status


def _work(machine: Machine, command: list[str] | None) -> int:
    """Run a command, or what comes in on standard input."""
    if command:
        return _run(machine, command)
    machine.guest.put(sys.stdin.buffer.read(), _SCRIPT, mode=0o700)
    return _run(machine, ["sh", _SCRIPT])


def _run_python(machine: Machine) -> int:
    """Run the Python program that comes in on standard input; what it asserts is a verdict."""
    with _reports_told(machine):
        try:
            live.run_python(machine, sys.stdin.buffer.read())
        except AssertionError:
            traceback.print_exc()
            return Exit.FAIL
    return Exit.OK


def _run(machine: Machine, command: list[str]) -> int:
    """Run a command, showing its output as it comes."""
    with _reports_told(machine), terminal.shown() as tell:
        return machine.session.run(command, timeout=_DAY, tell=tell).status


def _prompt(machine: Machine, *, python: bool) -> int:
    """Give the user a prompt. A machine that is lost meanwhile is kept for inspection while its QEMU is there."""
    console = output.console(stderr=True)
    _introduce(console, machine)
    with _reports_told(machine):
        live.python(machine) if python else guest_terminal.interact(machine.session)
    if machine.loss is None:
        return Exit.OK
    console.print(f"the machine is lost: {printable(machine.loss)}")
    console.print(f"console: {machine.directory / 'console.log'}")
    if machine.health.exit is None:
        console.print(f"QEMU is still there for inspection: {machine.debug_socket}\nEnter ends it.")
        guest_terminal.wait_for_enter()
    return Exit.FAIL


@contextmanager
def _reports_told(machine: Machine) -> Iterator[None]:
    """Tell, when the block ends, what the kernel complained of."""
    try:
        yield
    finally:
        with suppress(GuestFailure):  # what is wrong with the guest is on its way to the user already
            machine.drain()
        for report in machine.console.reports():
            output.console(stderr=True).print(f"the kernel reported {report.kind}: {report.title}")


def _introduce(console: Console, machine: Machine) -> None:
    for name, line in live.addresses(machine).items():
        console.print(f"{name + ':':9}{line}", soft_wrap=True)
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
