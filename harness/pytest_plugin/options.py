# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pytest run is asked for: command-line options, marks, and the run they describe."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import config as settings
from harness.config import Accel, Settings
from harness.deadline import Deadline
from harness.errors import CouldNotRun, HarnessError, Stage
from harness.machine import record
from harness.machine.parts import Parts, Store
from harness.machine.reference import Reference
from harness.machine.start import Starter
from harness.pytest_plugin.marks import MARKS
from harness.qemu.profile import Profile

_SETTINGS = ("kernel", "modules", "qemu", "accel", "profile_dir")
_TEST_TIMEOUT = 300.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("iov-harness")
    group.addoption("--kernel", help="kernel by name, or by path (anything with a '/')")
    group.addoption("--modules", type=Path, help="folder of the modules of a kernel given by path")
    group.addoption("--qemu", type=Path, help="QEMU binary to use; overlay: our own build")
    group.addoption("--accel", choices=[str(accel) for accel in Accel], help="accelerator")
    group.addoption("--profile-dir", type=Path, action="append", help="folder with profiles of your own (repeatable)")
    group.addoption("--cold", action="store_true", help="boot every machine, instead of cloning a checkpoint")
    group.addoption(
        "--test-timeout", type=float, default=_TEST_TIMEOUT, metavar="SECONDS",
        help="time for one test that uses a machine (default: %(default)s)",
    )  # fmt: skip
    group.addoption(
        "--deadline", type=float, metavar="SECONDS", help="time for the whole run; what it leaves unrun is a MISS"
    )
    group.addoption("--run-dir", type=Path, help="folder for the run's records (default: a new one in build/runs)")


def pytest_configure(config: pytest.Config) -> None:
    """Describe the run."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.stash[RUN] = Run(config)


class Run:
    """One pytest run: its settings, its parts, its folder. All made when first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._failure: HarnessError | None = None
        self._checked: set[str] = set()
        given: Path | None = config.getoption("--run-dir")
        self.records_all = given is not None
        self.planned = given.absolute() if given else record.planned_run()
        self.cold = bool(config.getoption("--cold"))
        self.test_timeout = float(config.getoption("--test-timeout"))
        self.deadline = self._deadline()

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, with the run's options before all others. Raises `UsageError`."""
        given: dict[str, Any] = {name: self._config.getoption(name) for name in _SETTINGS}
        given["profile_dir"] = tuple(given["profile_dir"] or ())
        return settings.load(**given)

    @functools.cached_property
    def store(self) -> Store:
        """Where parts come from."""
        return Store(self.settings)

    @functools.cached_property
    def reference(self) -> Reference:
        """The reference kernel, should the one under test not boot."""
        return Reference(self.store, self.directory, self.starter)

    @functools.cached_property
    def starter(self) -> Starter:
        """What brings machines up."""
        return Starter(self.store.cache, lambda: self.directory, self.settings.boot_timeout, cold=self.cold)

    @functools.cached_property
    def directory(self) -> Path:
        """The run's folder, made when first asked for."""
        return record.make_run(self.planned)

    @property
    def parts(self) -> Parts:
        """The parts of every machine. What cannot be provided is asked for once, and then refused at once."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._parts
        except HarnessError as error:
            self._failure = error
            raise

    @functools.cached_property
    def _parts(self) -> Parts:
        return self.store.parts()

    def check(self, profile: Profile) -> None:
        """Refuse a profile that the parts cannot serve, as `Parts.check`; asked once, for it starts a QEMU."""
        if profile.name not in self._checked:
            self.parts.check(profile)
            self._checked.add(profile.name)

    def join(self, given: Mapping[str, Any]) -> None:
        """Become part of the run that a controller described to this worker."""
        self.planned = Path(given["iov_run_dir"])
        self.deadline = Deadline(given["iov_deadline"], "the run")

    def check_deadline(self) -> None:
        """Raise `CouldNotRun` when the run's time is over."""
        if self.deadline.expired:
            raise self.out_of_time()

    def out_of_time(self) -> CouldNotRun:
        """Make the MISS of a test that the run's deadline cut off."""
        return CouldNotRun(f"the run's deadline of {self.deadline.seconds:g} s is over", stage=Stage.DEADLINE)

    def _deadline(self) -> Deadline:
        seconds = self._config.getoption("--deadline")
        return Deadline(float("inf") if seconds is None else seconds, "the run")


RUN = pytest.StashKey[Run]()
