# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness test`: run test cases in guests, by pytest, and exit with what they say of the kernel."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from harness import config
from harness.cli import comparison, flags
from harness.cli.comparison import Ran
from harness.cli.rows import show as show_rows
from harness.cli.targets import Targets
from harness.errors import CouldNotRun, HarnessError, UsageError
from harness.machine import record
from harness.machine.parts import Store
from harness.outcome import OUTCOME_FILE, Exit, Outcome, Verdict, bisect_code, exit_code

_PYTEST_OK, _PYTEST_USAGE, _PYTEST_EMPTY = 0, 4, 5  # pytest.ExitCode, whose import costs every command its time
_RECORD_SIZE = 64 * 1024
"""Bytes that one test's record takes at most, roughly."""
_WORKERS = ("auto", "logical")
_NOISY = ("paramiko.transport", "qemu.qmp.protocol.iov-harness")
"""Loggers of libraries that tell nobody anything at INFO."""
_AGAINST = "Run everything on this kernel, too, and print which tests say something else."
_FILES = "Test files or folders, yours or the harness's (default: all of the latter), and pytest's options."


def run_tests(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="FILES", help=_FILES)] = None,
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    profile_dir: flags.ProfileDir = None,
    workers: Annotated[str | None, typer.Option("-n", help="Workers: a number, or auto.")] = None,
    select: Annotated[str | None, typer.Option("-k", help="Only tests that match (as in pytest).")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds for the whole run; the rest is a MISS.")] = None,
    test_timeout: Annotated[float | None, typer.Option(help="Seconds for one test (default: 300).")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit file.")] = None,
    cold: flags.Cold = False,
    against: Annotated[str | None, typer.Option(metavar="KERNEL", help=_AGAINST)] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Run nothing: print which test shows what, and said what.")
    ] = False,
    bisect: Annotated[bool, typer.Option("--bisect", help="Exit codes for `git bisect run`.")] = False,
    json: flags.Json = False,
) -> None:
    """Run test cases: those of the harness, or files of your own. All other arguments go to pytest.

    Exits 0 all well, 1 any FAIL, 2 usage, 3 any MISS, 4 any ERROR, 5 nothing collected, 130 interrupted. With
    --against, 0 if all tests say the same on both kernels, and 1 if any does not.
    """
    if rows:
        selection = ["-k", select] if select else []
        show_rows(Targets.of([*(arguments or []), *selection]), config.load(kernel=kernel).kernel, as_json=json)
        return
    try:
        store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel, profile_dir=profile_dir)
        given: dict[str, object] = {
            "-n": workers, "-k": select, "--deadline": deadline, "--test-timeout": test_timeout, "--junitxml": junit,
        }  # fmt: skip
        _check(given)
        targets = Targets.of(arguments or [])
        other = None if against is None else store.on(config.load(kernel=against).kernel)
        if other is not None:
            other.parts()  # what is wrong with it is told before anything runs
        ran = _run(store, given, targets, cold=cold, quiet=json)
        if other is None or ran.stopped:
            code = _told(ran, json=json)
        else:
            given["--junitxml"] = None  # the first run's
            code = comparison.told(ran, _run(other, given, targets, cold=cold, quiet=json), json=json)
    except HarnessError as error:
        if not bisect:
            raise
        typer.echo(f"harness: {error}", err=True)
        code = error.exit_code
    except Exception:
        if not bisect:
            raise
        traceback.print_exc()
        code = Exit.ERROR
    raise typer.Exit(bisect_code(code) if bisect else code)


def _run(store: Store, given: Mapping[str, object], targets: Targets, *, cold: bool, quiet: bool) -> Ran:
    flags.announce(store.parts())  # fetched here, where the terminal can show how far it is
    run = record.new_run()
    settings = store.settings
    command = [*targets.pytest, "--run-dir", str(run)]
    command += ["--kernel", settings.kernel, "--accel", str(settings.accel), *_logging(targets.arguments)]
    command += ["--cold"] if cold else []
    for name, value in {**given, "--modules": settings.modules, "--qemu": settings.qemu}.items():
        command += [name, str(value)] if value is not None else []
    for folder in settings.profile_dir:
        command += ["--profile-dir", str(folder)]
    status, interrupted = _pytest([*command, *targets.arguments], quiet=quiet)
    if status == _PYTEST_USAGE:
        record.forget(run)
        return Ran(settings.kernel, run, (), Exit.USAGE)
    _check_room(run)
    verdicts = tuple(_verdicts(run))
    code = _code(status, [verdict.outcome for verdict in verdicts], interrupted=interrupted)
    return Ran(settings.kernel, run, verdicts, code, interrupted=interrupted)


def _told(ran: Ran, *, json: bool) -> int:
    if json and ran.code != Exit.USAGE:
        flags.print_json(ran.plain())
    return ran.code


def _check(given: Mapping[str, object]) -> None:
    """Refuse what pytest would only stumble over."""
    workers, junit = given["-n"], given["--junitxml"]
    if workers is not None and not (str(workers).isdecimal() or workers in _WORKERS):
        raise UsageError(f"-n {workers}: write a number of workers, or {' or '.join(_WORKERS)}")
    for name in ("--deadline", "--test-timeout"):
        seconds = given[name]
        if isinstance(seconds, float) and not seconds > 0:
            raise UsageError(f"{name} {seconds:g}: give seconds, more than 0")
    if isinstance(junit, Path):
        if junit.is_dir():
            raise UsageError(f"--junit {junit} is a folder; give the name of a file")
        there = next(folder for folder in junit.absolute().parents if folder.exists())
        if not there.is_dir():
            raise UsageError(f"--junit {junit}: {there} is no folder")


def _logging(arguments: Sequence[str]) -> list[str]:
    """Give pytest's options that show the harness's log, where `-v` is given: before `test` or after it."""
    if not ({"-v", "-vv", "--verbose"} & {*arguments} or logging.getLogger().isEnabledFor(logging.INFO)):
        return []
    libraries = (word for name in _NOISY for word in ("--log-disable", name))
    return ["--log-cli-level", "INFO", "--log-cli-format", "%(name)s: %(message)s", *libraries]


def _pytest(command: list[str], *, quiet: bool) -> tuple[int, bool]:
    """Run pytest; gives its status, and whether the user interrupted it."""
    interrupted: list[int] = []
    # pytest gets a terminal's Ctrl-C itself, and writes its reports; setpriv ends it should we be killed.
    before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    try:
        output = sys.stderr if quiet else None
        restored = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with subprocess.Popen(restored, stdout=output) as process:
            try:
                return process.wait(), bool(interrupted)
            except SystemExit:  # SIGTERM: the guests end, and the reports are written
                process.terminate()
                raise
    except FileNotFoundError as error:
        raise CouldNotRun("setpriv is not on this machine: apt-get install util-linux") from error
    finally:
        signal.signal(signal.SIGINT, before)


def _verdicts(run: Path) -> list[Verdict]:
    found = []
    for path in sorted(run.glob(f"*/{OUTCOME_FILE}")):
        try:
            found.append(Verdict.load(path.parent))
        except (OSError, ValidationError) as error:
            raise UsageError(f"{path} is no record of this version: {error}") from error
    return found


def _code(status: int, outcomes: list[Outcome], *, interrupted: bool) -> int:
    """Say by the outcomes how a run ended; by pytest's status only what they leave open."""
    if status == _PYTEST_USAGE:
        return Exit.USAGE
    said = exit_code(outcomes)
    if said not in (Exit.OK, Exit.EMPTY):
        return said
    if interrupted:
        return Exit.INTERRUPTED
    if status == _PYTEST_OK:
        return Exit.OK  # also where tests were only listed
    return Exit.EMPTY if status == _PYTEST_EMPTY else Exit.ERROR


def _check_room(run: Path) -> None:
    """Raise `CouldNotRun` where the records of a run cannot be written any more: then they do not tell all."""
    probe = record.folder_for(run, "probe") / OUTCOME_FILE
    try:
        probe.write_bytes(bytes(_RECORD_SIZE))
    except OSError as error:
        raise CouldNotRun(f"the records in {run} cannot be written: {error.strerror}") from error
    finally:
        probe.unlink(missing_ok=True)
        probe.parent.rmdir()
