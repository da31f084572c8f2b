# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: thin. Parses, calls, prints; the one place where errors become lines and exit codes."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.console import Console

from harness import __version__
from harness.cli import bench, cache, demo, doctor, profiles, provision, shell, test
from harness.deadline import DeadlineExpired
from harness.errors import CouldNotRun, GuestFailure, HarnessError
from harness.outcome import Exit

app = typer.Typer(
    name="harness", no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.command()(doctor.doctor)
app.command()(profiles.profiles)
app.command()(provision.provision)
app.add_typer(cache.app, name="cache")
app.command()(shell.shell)
app.command("test", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(test.run_tests)
app.add_typer(bench.app, name="bench")
app.command()(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"iov-harness {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more (-vv: libraries too).")] = 0,
) -> None:
    """Boots Linux guests on emulated SR-IOV hardware and says whether their PCI I/O virtualization behaves."""
    del version
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    logging.basicConfig(level=levels[min(verbose, 2)], format="%(name)s: %(message)s")
    if verbose < 2:
        # What goes wrong on a connection reaches the user as an error of ours, with its reason.
        for library in ("paramiko", "qemu.qmp", "asyncio"):
            logging.getLogger(library).setLevel(logging.CRITICAL)


def main() -> None:
    """Run a command and exit with its code."""
    console = Console(stderr=True, highlight=False)
    try:
        app()
    except HarnessError as error:
        _tell(console, str(error))
        if isinstance(error, CouldNotRun) and error.detail:
            console.print(error.detail, markup=False)
        sys.exit(error.exit_code)
    except (GuestFailure, DeadlineExpired) as error:
        _tell(console, str(error))
        sys.exit(Exit.FAIL)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)


def _tell(console: Console, line: str) -> None:
    console.print("[bold red]harness:[/]", end=" ")
    console.print(line, markup=False, soft_wrap=True)
