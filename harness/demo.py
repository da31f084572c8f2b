# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job in half a minute: two guests side by side, their VFs enabled, and a verdict on what should hold."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import GuestFailure
from harness.guest.agent import raises_errno
from harness.guest.pci import Bdf, Function
from harness.judge import Judge
from harness.machine.machine import Machine
from harness.machine.spec import Spec
from harness.machine.start import Starter
from harness.outcome import Outcome

PROFILES = ("nvme-sriov", "igb-sriov")


@dataclass(frozen=True)
class Check:
    """One check on one machine: what must hold, its outcome, why, and how long it took."""

    profile: str
    claim: str
    outcome: Outcome
    reason: str
    seconds: float


@dataclass(frozen=True)
class Shown:
    """What one machine showed."""

    profile: str
    start_seconds: float
    before: str
    after: str
    checks: tuple[Check, ...]


def show(starter: Starter, spec: Spec, directory: Path) -> Shown:
    """Start a machine, look at its PCI tree before and after enabling all VFs, and check what must hold."""
    started = time.monotonic()
    with starter.running(spec, directory) as machine:
        start_seconds = time.monotonic() - started
        before = _tree(machine)
        pf = machine.pfs[0]
        checks = [_check(spec.profile.name, claim, check, pf) for claim, check in _enabling()]
        after = _tree(machine)
        checks += [_check(spec.profile.name, claim, check, pf) for claim, check in _disabling()]
        checks.append(_check(spec.profile.name, "the kernel complained of nothing", lambda _: _quiet(machine), pf))
    return Shown(spec.profile.name, start_seconds, before, after, tuple(checks))


def _enabling() -> Iterator[tuple[str, Callable[[Function], None]]]:
    yield "more VFs than sriov_totalvfs are refused: ERANGE", _too_many
    yield "all VFs can be enabled", _enable_all
    yield "every VF is at PF + offset + stride x index", _addresses
    yield "another count while VFs are enabled is refused: EBUSY", _busy


def _disabling() -> Iterator[tuple[str, Callable[[Function], None]]]:
    yield "writing 0 removes every VF", _disable


def _check(profile: str, claim: str, check: Callable[[Function], None], pf: Function) -> Check:
    started = time.monotonic()
    outcome, reason = Outcome.PASS, ""
    try:
        check(pf)
    except GuestFailure as failure:
        outcome, reason = Outcome.FAIL, str(failure).partition("\n")[0]
    return Check(profile, claim, outcome, reason, time.monotonic() - started)


def _too_many(pf: Function) -> None:
    with raises_errno(errno.ERANGE):
        pf.numvfs = pf.totalvfs + 1


def _enable_all(pf: Function) -> None:
    pf.numvfs = pf.totalvfs
    _equal("sriov_numvfs", pf.numvfs, pf.totalvfs)


def _addresses(pf: Function) -> None:
    first = pf.bdf.routing_id + pf.offset
    expected = [Bdf.from_routing_id(first + pf.stride * index) for index in range(pf.totalvfs)]
    _equal("addresses of the VFs", [str(vf.bdf) for vf in pf.vfs], [str(bdf) for bdf in expected])


def _busy(pf: Function) -> None:
    with raises_errno(errno.EBUSY):
        pf.numvfs = 1


def _disable(pf: Function) -> None:
    pf.numvfs = 0
    _equal("VFs", pf.vfs, [])


def _quiet(machine: Machine) -> None:
    judge = Judge()
    judge.machines.append(machine)
    complaint = judge.complaint()
    if complaint is not None:
        raise complaint


def _equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise GuestFailure(f"{what}: {found}, expected {expected}")


def _tree(machine: Machine) -> str:
    return machine.guest.run(["lspci", "-tv"], check=True).stdout
