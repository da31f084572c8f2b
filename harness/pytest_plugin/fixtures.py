# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixtures: `machine`, `guest`, `pf`, `pfs`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from harness.errors import CouldNotRun, UsageError
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine import record
from harness.machine.machine import Machine, Spec, booted
from harness.pytest_plugin.options import RUN

MACHINES = pytest.StashKey[list[Machine]]()
"""The machines that a test has used, for whoever judges it."""

FOLDER = pytest.StashKey[Path]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a case of every `machine` mark; those nearest to the test replace those of its class or module."""
    if "machine" not in metafunc.fixturenames:
        return
    by_node = groupby(metafunc.definition.iter_markers_with_node("machine"), key=lambda pair: pair[0])
    nearest = next((list(pairs) for _, pairs in by_node), [])
    marks = [mark for _, mark in reversed(nearest)]
    if marks:
        metafunc.parametrize("machine", marks, indirect=True, ids=[_case(mark) for mark in marks])


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of the test's own, fresh: the one that its `machine` mark asks for."""
    run = request.config.stash[RUN]
    spec = _spec(request)
    directory = folder(request.node)
    try:
        with booted(spec, directory, run.settings.boot_timeout) as fresh:
            request.node.stash.setdefault(MACHINES, []).append(fresh)
            yield fresh
    except CouldNotRun as lost:
        raise run.reference.judged(lost, spec) from None


@pytest.fixture
def guest(machine: Machine) -> Guest:
    """The guest on the test's machine."""
    return machine.guest


@pytest.fixture
def pfs(machine: Machine) -> list[Function]:
    """The physical functions of the test's machine, in its profile's order."""
    return machine.pfs


@pytest.fixture
def pf(pfs: list[Function]) -> Function:
    """The first physical function of the test's machine."""
    if not pfs:
        raise UsageError("the fixture pf needs a profile with a PF")
    return pfs[0]


def folder(item: pytest.Item) -> Path:
    """Give a test's folder in the run record, made when first asked for."""
    if FOLDER not in item.stash:
        item.stash[FOLDER] = record.folder_for(item.config.stash[RUN].directory, item.nodeid)
    return item.stash[FOLDER]


def _spec(request: pytest.FixtureRequest) -> Spec:
    mark: pytest.Mark | None = getattr(request, "param", None)
    if mark is None:
        raise UsageError('say which machine: @pytest.mark.machine("PROFILE", parameter=value)')
    run = request.config.stash[RUN]
    profile = run.store.library.get(*mark.args)
    parameters = profile.resolve(mark.kwargs)
    run.parts.check(profile)
    return Spec(profile, parameters, run.parts, run.store.library.folders)


def _case(mark: pytest.Mark) -> str:
    return "-".join([*map(str, mark.args), *(f"{name}={value}" for name, value in mark.kwargs.items())])
