# SPDX-License-Identifier: GPL-2.0-or-later
"""What a clone costs: its checkpoint, its start, its devices, its memory, and how many come in a minute."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from harness.errors import CouldNotRun, GuestFailure, HarnessError
from harness.machine import record
from harness.machine.checkpoint import Checkpoint
from harness.machine.spec import Spec
from harness.machine.start import Starter, make
from harness.qemu import runtime

_PSS = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)


def saves(spec: Spec, directory: Path, count: int, timeout: float) -> Iterator[float]:
    """Make a checkpoint `count` times, each of a newly booted machine, and give the seconds of stopping and saving."""
    for _ in range(count):
        with TemporaryDirectory(dir=directory) as folder:
            made = make(spec, record.folder_for(directory, "save"), Checkpoint(Path(folder)), timeout)
        yield made["milestones"]["saved"]


def starts(starter: Starter, spec: Spec, directory: Path, count: int, *, cold: bool) -> Iterator[float]:
    """Start a machine `count` times, and give the seconds from QEMU's start to the end of a first command in it."""
    for _ in range(count):
        with starter.running(spec, record.folder_for(directory, "cold" if cold else "clone"), cold=cold) as machine:
            machine.guest.run("true", check=True)
            yield machine.age


def cold_in_turns(starter: Starter, specs: Sequence[Spec], directory: Path, count: int) -> Iterator[tuple[int, float]]:
    """Boot machines `count` times each, one after the other: a busy minute of the host counts against all of them.

    Gives the machine's number and the seconds, as `starts`.
    """
    for _ in range(count):
        for number, spec in enumerate(specs):
            for seconds in starts(starter, spec, directory, 1, cold=True):
                yield number, seconds


def plugs(starter: Starter, spec: Spec, directory: Path, count: int) -> Iterator[float]:
    """Plug a profile's devices into `count` clones, and give the seconds until their drivers were bound."""
    for _ in range(count):
        with starter.running(spec, record.folder_for(directory, f"plug-{spec.profile.name}")) as machine:
            if any(pf.driver is None for pf in machine.pfs):
                raise GuestFailure(f"profile {spec.profile.name}: no driver is bound to {machine.pfs}")
            yield max(machine.milestones.values()) - machine.milestones["ssh"]


def memory(starter: Starter, spec: Spec, directory: Path, together: int) -> list[float]:
    """Let clones run together, and give the proportional set size (PSS) of each QEMU in MB."""
    with ExitStack() as stack:
        folders = [record.folder_for(directory, "memory") for _ in range(together)]
        machines = [stack.enter_context(starter.running(spec, folder)) for folder in folders]
        return [_pss(machine.process.pid) for machine in machines]


@dataclass(frozen=True)
class Crowd:
    """What became of many clones."""

    count: int
    lost: tuple[str, ...]
    seconds: float
    changed: bool
    processes_left: int
    files_left: int


def crowd(starter: Starter, spec: Spec, directory: Path, count: int, at_once: int, told: Callable[[], None]) -> Crowd:
    """Start `count` clones, several at once, run a command in each, and look at what is left of them."""
    source = starter.source(spec)
    if source is None:
        raise CouldNotRun(f"no clones can be made of profile {spec.profile.name} with kernel {spec.parts.kernel.name}")
    ram = source.ram
    before, processes, folders = _digest(ram), _processes(), set(runtime.abandoned())

    def one(_: int) -> str:
        try:
            with starter.running(spec, record.folder_for(directory, "crowd")) as machine:
                machine.guest.run("true", check=True)
        except (GuestFailure, HarnessError) as error:
            return str(error) or type(error).__name__
        finally:
            told()
        return ""

    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        ends = list(pool.map(one, range(count)))
    seconds = time.monotonic() - started
    left = len(_processes() - processes), len(set(runtime.abandoned()) - folders)
    return Crowd(count, tuple(filter(None, ends)), seconds, _digest(ram) != before, *left)


def _processes() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def _pss(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    match = _PSS.search(rollup)
    if match is None:
        raise OSError(f"/proc/{pid}/smaps_rollup names no Pss")
    return int(match[1]) * 1024 / 1e6


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
