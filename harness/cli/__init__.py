# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: thin. Parses, calls, prints; the one place where errors become lines and exit codes."""

from __future__ import annotations

import errno
import logging
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated

import typer
from rich.text import Text

from harness import __version__, paths
from harness.cli import (
    bench,
    cache,
    demo,
    device,
    doctor,
    kernel,
    output,
    profiles,
    provision,
    report,
    repro,
    shell,
    test,
    validate,
)
from harness.deadline import DeadlineExpired
from harness.errors import CouldNotRun, GuestFailure, HarnessError
from harness.outcome import SIGNALLED, Exit
from harness.text import printable

app = typer.Typer(
    name="harness", no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.command()(doctor.doctor)
app.command()(profiles.profiles)
app.command()(provision.provision)
app.add_typer(cache.app, name="cache")
app.command()(shell.shell)
app.command("test", context_settings={"ignore_unknown_options": True})(test.run_tests)
app.add_typer(kernel.app, name="kernel")
app.add_typer(device.app, name="device")
app.add_typer(bench.app, name="bench")
app.add_typer(validate.app, name="validate")
app.command()(report.report)
app.command()(repro.repro)
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
        for library in ("paramiko", "qemu.qmp", "asyncio", "drgn", "distributed"):
            logging.getLogger(library).setLevel(logging.CRITICAL)


def main() -> None:
    """Run a command and exit with its code; SIGTERM ends it in good order, too."""
    signal.signal(signal.SIGTERM, _end)
    try:
        code = app(prog_name=app.info.name, standalone_mode=False)
    except typer.TyperException as error:  # a mistake on the command line, or a command without anything: its help
        if text := error.format_message():
            _tell(f"{text.rstrip('.')} (see {_command(error)} -h)")
        code = error.exit_code
    except HarnessError as error:
        _tell(" ".join(str(error).splitlines()))
        if isinstance(error, CouldNotRun) and error.detail:
            output.console(stderr=True).print(printable(error.detail))
        code = error.exit_code
    except (GuestFailure, DeadlineExpired) as error:
        _tell(str(error))
        code = Exit.FAIL
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except SystemExit as ended:  # by us, or by typer with 1, which says FAIL, where nobody reads on (`| head`)
        code = SIGNALLED + signal.SIGPIPE if ended.code == 1 else ended.code
    except Exception as error:  # noqa: BLE001 - a bug of ours; 1, with which Python would exit, says FAIL
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _tell(f"no space left on the disk: a run writes into {paths.output()}")
            code = CouldNotRun.exit_code
        else:
            traceback.print_exc()
            code = Exit.ERROR
    sys.exit(code)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(SIGNALLED + number)


def _tell(line: str) -> None:
    output.console(stderr=True).print(Text.assemble(("harness:", "bold red"), f" {printable(line)}"))


def _command(error: typer.TyperException) -> str:
    context: typer.Context | None = getattr(error, "ctx", None)
    return context.command_path if context else "harness"
