# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixtures: `machine` and those that start more, that are parts of it, or that look into it or load into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from harness.device.device import Device
from harness.device.overlay import Overlay
from harness.errors import UsageError
from harness.guest import module
from harness.guest.guest import Guest
from harness.guest.introspect.failures import CannotIntrospect
from harness.guest.module import Module
from harness.guest.pci import Function
from harness.machine import introspection as looking
from harness.machine.machine import Machine
from harness.machine.parts import needs_overlay, without_overlay
from harness.provision import guest_module as guest_modules
from harness.pytest_plugin.case import Case
from harness.pytest_plugin.marks import options
from harness.pytest_plugin.options import RUN
from harness.pytest_plugin.started import Pool, started

if TYPE_CHECKING:
    from harness.guest.introspect.state import KernelState


class Boot(Protocol):
    """Starts one more machine for a test, which ends with it: a profile's name, and its parameters."""

    def __call__(self, profile: str, /, **parameters: Any) -> Machine:
        """Give the machine, ready. Raises `CouldNotRun`, or `KernelDoesNotBoot` where its kernel is to blame."""


class LoadModule(Protocol):
    """Loads a kernel module into the test's guest, built for its kernel: one of ours by name, or from your folder."""

    def __call__(self, name: str | Path, /, **parameters: str | int) -> Module:
        """Give the module, loaded.

        Skips the test where the kernel came without headers. Raises `CouldNotRun` where it cannot be built, and
        `GuestErrno` where the kernel refuses it.
        """


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a case of every `machine` mark; those nearest to the test replace those of its class or module."""
    if "machine" not in metafunc.fixturenames:
        return
    by_node = groupby(metafunc.definition.iter_markers_with_node("machine"), key=lambda pair: pair[0])
    nearest = next((list(pairs) for _, pairs in by_node), [])
    marks = [mark for _, mark in reversed(nearest)]
    if marks:
        metafunc.parametrize("machine", marks, indirect=True, ids=[_id(mark) for mark in marks])


@pytest.fixture
def boot(request: pytest.FixtureRequest) -> Iterator[Boot]:
    """Starts machines for the test, besides the one that its mark may ask for. All are judged with it."""
    case = Case.of(request.node)
    with ExitStack() as stack:

        def boot_one(profile: str, /, **parameters: Any) -> Machine:
            return started(case, stack, case.new_folder(), profile, parameters)

        yield boot_one
        # Whatever depends on a machine is torn down by now: what the kernel said to that still counts.
        case.check()


@pytest.fixture
def machine(request: pytest.FixtureRequest, boot: Boot) -> Machine:
    """A machine of the test's own, fresh: the one that its `machine` mark asks for."""
    _skip_without_options(request)
    mark: pytest.Mark | None = getattr(request, "param", None)
    _skip_without_overlay(request, mark)
    if "debug_info" in request.fixturenames:
        request.getfixturevalue("debug_info")
    if mark is None:
        raise UsageError('say which machine: @pytest.mark.machine("PROFILE", parameter=value)')
    if "shared_machine" in request.fixturenames:
        pool: Pool = request.getfixturevalue("_pool")
        return pool.machine(Case.of(request.node), mark)
    return boot(*mark.args, **mark.kwargs)


@pytest.fixture
def shared_machine(machine: Machine) -> Machine:
    """The machine of the test's `machine` mark, shared with the tests of its module that ask for this one too.

    For tests that only look. `guest`, `pf` and `pfs` are then those of the shared machine.
    """
    return machine


@pytest.fixture(scope="module")
def _pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


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


@pytest.fixture
def device(machine: Machine) -> Device:
    """The first Python device of the test's machine: its registers, the log of all accesses, its faults."""
    if not machine.devices:
        raise UsageError("the fixture device needs a profile with a device that lives in Python")
    return next(iter(machine.devices.values()))


@pytest.fixture
def overlay(machine: Machine) -> Overlay:
    """What changes what the guest sees of the first physical function of the test's machine.

    A test that asks for it, or for a profile with overlays, skips on a QEMU that has none.
    """
    if not machine.spec.profile.pfs:
        raise UsageError("the fixture overlay needs a profile with a PF")
    return machine.overlay(machine.spec.profile.pfs[0])


@pytest.fixture
def introspection(machine: Machine, debug_info: Path) -> Iterator[KernelState]:
    """The kernel of the test's machine, looked into from outside; skips for a kernel without debug information.

    It holds the machine's second QMP socket until the test ends.
    """
    del debug_info
    with machine.introspect() as state:
        yield state


@pytest.fixture
def debug_info(request: pytest.FixtureRequest) -> Path:
    """The vmlinux of the kernel under test, without which it cannot be looked into: a test that asks for it skips.

    It does so before a machine is started: `machine` asks for it first.
    """
    try:
        return looking.debug_info(request.config.stash[RUN].parts.kernel)
    except CannotIntrospect as reason:
        pytest.skip(str(reason))


@pytest.fixture
def guest_module(request: pytest.FixtureRequest, machine: Machine) -> LoadModule:
    """Loads kernel modules into the guest on the test's machine: `guest_module("NAME", parameter="value")`."""
    store = request.config.stash[RUN].store
    case = Case.of(request.node)

    def load(name: str | Path, /, **parameters: str | int) -> Module:
        source = request.path.parent / name if isinstance(name, Path) else guest_modules.named(name)
        kernel = machine.spec.parts.kernel
        if kernel.headers is None:
            pytest.skip(f"kernel {kernel.name} came without headers, so no module can be built for it")
        with case.waiting_for(f"module {source.name}"):
            built = store.module(kernel, source)
        return module.load(machine.guest, built, **parameters)

    return load


def _skip_without_options(request: pytest.FixtureRequest) -> None:
    """Skip a test that is about kernel options which the kernel under test lacks, or does not say that it has."""
    wanted = options(request.node)
    if not wanted:
        return
    kernel = request.config.stash[RUN].parts.kernel
    if kernel.config is None:
        names = ", ".join(f"CONFIG_{name}" for name in sorted(wanted))
        pytest.skip(f"kernel {kernel.name} does not say whether it has {names}: CONFIG_IKCONFIG, or a .config, would")
    missing = kernel.missing(wanted)
    if missing:
        pytest.skip(f"kernel {kernel.name} lacks {', '.join(missing)}")


def _skip_without_overlay(request: pytest.FixtureRequest, mark: pytest.Mark | None) -> None:
    """Skip a test that overlays configuration space on a QEMU that cannot do that."""
    run = request.config.stash[RUN]
    if run.parts.qemu.has_overlay:
        return
    asks = "overlay" in request.fixturenames or request.node.get_closest_marker("needs_overlay") is not None
    if asks or (mark is not None and mark.args and needs_overlay(run.store.library.get(mark.args[0]))):
        pytest.skip(without_overlay(run.parts.qemu))


def _id(mark: pytest.Mark) -> str:
    return "-".join([*map(str, mark.args), *(f"{name}={value}" for name, value in mark.kwargs.items())])
