# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness test`: run test cases in guests, by pytest, and exit with what they say of the kernel."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from harness import paths
from harness.cli import flags
from harness.errors import HarnessError, UsageError
from harness.machine import record
from harness.machine.parts import Store
from harness.outcome import OUTCOME_FILE, Exit, Outcome, Verdict, bisect_code, exit_code

_PYTEST_INTERRUPTED, _PYTEST_INTERNAL, _PYTEST_USAGE, _PYTEST_EMPTY = 2, 3, 4, 5  # pytest.ExitCode


def run_tests(
    context: typer.Context,
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
    bisect: Annotated[bool, typer.Option("--bisect", help="Exit codes for `git bisect run`.")] = False,
    json: flags.Json = False,
) -> None:
    """Run test cases: those of the harness, or files of your own. All other arguments go to pytest.

    Exits 0 all well, 1 any FAIL, 2 usage, 3 any MISS, 4 any ERROR, 5 nothing collected, 130 interrupted.
    """
    try:
        store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel, profile_dir=profile_dir)
        given = {
            "-n": workers, "-k": select, "--deadline": deadline, "--test-timeout": test_timeout, "--junitxml": junit,
        }  # fmt: skip
        code = _run(store, given, context.args, json=json)
    except HarnessError as error:
        if not bisect:
            raise
        typer.echo(f"harness: {error}", err=True)
        code = error.exit_code
    raise typer.Exit(bisect_code(code) if bisect else code)


def _run(store: Store, given: Mapping[str, object], arguments: list[str], *, json: bool) -> int:
    store.parts()  # fetched here, where the terminal can show how far it is
    run = record.new_run()
    settings = store.settings
    command = [sys.executable, "-m", "pytest", "-c", str(paths.data_root() / "pyproject.toml")]
    command += ["--rootdir", str(paths.data_root()), "-p", "no:cacheprovider", "--run-dir", str(run)]
    command += ["--kernel", settings.kernel, "--accel", str(settings.accel)]
    for name, value in {**given, "--modules": settings.modules, "--qemu": settings.qemu}.items():
        command += [name, str(value)] if value is not None else []
    for folder in settings.profile_dir:
        command += ["--profile-dir", str(folder)]
    status = _pytest([*command, *_targets(arguments)], quiet=json)
    verdicts = list(_verdicts(run))
    code = _code(status, [verdict.outcome for verdict in verdicts])
    if json:
        flags.print_json(_summary(run, verdicts, code))
    return code


def _targets(arguments: list[str]) -> list[str]:
    """Resolve test files against the current folder first, then against the harness's own tests."""
    resolved = []
    named = False
    for word in arguments:
        path, _, node = word.partition("::")
        own = paths.data_root() / path
        if word.startswith("-") or not (Path(path).exists() or own.exists()):
            resolved.append(word)
            continue
        named = True
        chosen = Path(path).absolute() if Path(path).exists() else own
        resolved.append(f"{chosen}::{node}" if node else str(chosen))
    return resolved if named else [*resolved, str(paths.data_root() / "tests" / "guest")]


def _pytest(command: list[str], *, quiet: bool) -> int:
    # pytest gets a terminal's Ctrl-C itself, and writes its reports; setpriv ends it should we be killed.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        output = sys.stderr if quiet else None
        restored = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with subprocess.Popen(restored, stdout=output, preexec_fn=_take_interrupts) as process:
            return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _take_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _verdicts(run: Path) -> list[Verdict]:
    found = []
    for path in sorted(run.glob(f"*/{OUTCOME_FILE}")):
        try:
            found.append(Verdict.load(path.parent))
        except (OSError, ValidationError) as error:
            raise UsageError(f"{path} is no record of this version: {error}") from error
    return found


def _code(status: int, outcomes: list[Outcome]) -> int:
    if status == _PYTEST_USAGE:
        return Exit.USAGE
    if status == _PYTEST_INTERRUPTED and Outcome.ERROR not in outcomes:
        return Exit.INTERRUPTED
    if status == _PYTEST_INTERNAL or (status != 0 and status < _PYTEST_USAGE and not outcomes):
        return Exit.ERROR
    return exit_code(outcomes)


def _summary(run: Path, verdicts: list[Verdict], code: int) -> dict[str, object]:
    counts = Counter(str(verdict.outcome) for verdict in verdicts)
    tests = [verdict.model_dump(by_alias=True) for verdict in verdicts]
    return {"run": str(run), "exit": code, "outcomes": counts, "tests": tests}
