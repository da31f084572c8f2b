# SPDX-License-Identifier: GPL-2.0-or-later
"""A running machine: QEMU, QMP, console and SSH in one owner, from power-on until nothing of it is left."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.deadline import Deadline, DeadlineExpired
from harness.errors import CouldNotRun, Stage
from harness.guest.console import Console
from harness.guest.guest import Guest
from harness.guest.pci import Bdf, Function
from harness.guest.ssh import GuestLost, Session
from harness.machine.health import Health
from harness.machine.parts import Parts
from harness.qemu import options, runtime
from harness.qemu.loop import the_loop
from harness.qemu.process import QemuProcess
from harness.qemu.profile import Profile, Value
from harness.qemu.qmp import CommandRefused, Monitor, QmpLost
from harness.qemu.template import Renderer, Software, Wiring

_log = logging.getLogger(__name__)

_START_TIMEOUT = 30.0
"""Seconds for QEMU to start and greet over QMP: 0.1 s when idle."""
_SETTLE_TIMEOUT = 3.0
"""Seconds to wait for the last words of a QEMU that may be beyond any."""
_EVIDENCE_LINES = 25
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")


@dataclass(frozen=True)
class Spec:
    """Which machine: a profile with all its parameters, and the parts it is made of."""

    profile: Profile
    parameters: Mapping[str, Value]
    parts: Parts
    folders: tuple[Path, ...]

    def command_line(self, wiring: Wiring) -> tuple[options.Option, ...]:
        """Give QEMU's options."""
        append = str(self.parameters["append"])
        software = Software(self.parts.accel.options, self.parts.kernel.image, self.parts.initramfs, append)
        return Renderer(self.folders).command_line(self.profile, self.parameters, software, wiring)

    def about(self) -> dict[str, Any]:
        """Give what a record of a run says of its machine."""
        parts = self.parts
        return {
            "profile": self.profile.name, "parameters": dict(self.parameters), "kernel": parts.kernel.name,
            "release": parts.kernel.release, "kernel_origin": parts.kernel.origin, "qemu": parts.qemu.version,
            "qemu_origin": parts.qemu.origin, "accel": parts.accel.name,
        }  # fmt: skip


class Machine:
    """A machine that runs. Made by `booted`; nothing of it outlives the block."""

    def __init__(self, spec: Spec, directory: Path) -> None:
        loop = the_loop()
        self.spec = spec
        self.directory = directory
        self.health = Health(self._lost, spec.profile.name)
        self.qmp = Monitor(loop, directory / "qmp.jsonl", self.health.on_event)
        self.console = Console(loop, directory / "console.log", self.health.on_line)
        self.session = Session(spec.parts.keys, directory / "ssh.log")
        self.guest = Guest(self.session, self.console)
        self.process = QemuProcess(loop, self.health.on_exit)
        self.debug_socket: Path | None = None
        self._stack = ExitStack()

    @property
    def loss(self) -> str | None:
        """Why the machine is of no more use (a panic, the end of QEMU); None while it runs."""
        return self.health.loss

    def function(self, device: str) -> Function:
        """Give the guest's view of the function whose QEMU id is `device`; raises `LookupError` for an unknown id."""
        found = _addresses(self.qmp.execute("query-pci"))
        if device not in found:
            raise LookupError(f"QEMU has no PCI device with the id {device!r}; it has {', '.join(sorted(found))}")
        return self.guest.function(found[device])

    @property
    def pfs(self) -> list[Function]:
        """The physical functions of the profile, in the profile's order."""
        return [self.function(device) for device in self.spec.profile.pfs]

    def boot(self, timeout: float, *, ssh_port: int = 0) -> None:
        """Power on and wait until the guest answers over SSH and its drivers have met their devices.

        Raises `CouldNotRun` with the stage at which it was lost, and what is needed to find out why.
        """
        deadline = Deadline(timeout, "the guest's first SSH session")
        try:
            self._start(ssh_port)
            self.health.started()
            self.health.wait(deadline)
            if self.loss is None:
                self._connect(deadline)
        except (DeadlineExpired, QmpLost, GuestLost) as error:
            raise self._explained(str(error)) from error
        if self.loss is not None:
            raise self._explained(self.loss)

    def drain(self) -> None:
        """Wait until all that the kernel has said until now has arrived.

        Raises `GuestTimeout` or `GuestLost`, and `CouldNotRun` where the run's records of it cannot be written.
        """
        if self.loss is None:
            try:
                self.guest.drain()
            except GuestLost:
                self.settle()
                raise
        else:
            self.settle()
        self._check_records()

    def settle(self) -> None:
        """Wait until what QEMU has written has arrived, and where QEMU is ending, for its end."""
        deadline = Deadline(_SETTLE_TIMEOUT, "the last words of QEMU")
        try:
            self.qmp.execute("query-status", timeout=deadline.remaining())
        except (QmpLost, CommandRefused, DeadlineExpired):
            self.health.wait_exit(deadline)
        self.console.catch_up(deadline, ended=self.health.exit is not None)

    def close(self) -> None:
        """End QEMU and let go of everything; QEMU is gone when this returns."""
        self._stack.close()

    def _start(self, ssh_port: int) -> None:
        folder = self._stack.enter_context(runtime.private_folder())
        self._stack.callback(self.console.close)
        self._stack.callback(self.qmp.close)
        self._stack.callback(self.session.close)
        with _listening(folder / "qmp.sock") as qmp, _listening(folder / "debug.sock") as debug, \
                _listening(folder / "console.sock") as console:  # fmt: skip
            wiring = Wiring(_handed(qmp), _handed(debug), _handed(console, wait=True), ssh_port)
            self._note_argv(ssh_port)
            program = str(self.spec.parts.qemu.path)
            argv = [program, *options.argv(self.spec.command_line(wiring))]
            # Connected before QEMU starts: the kernel queues the connections, so nothing has to be polled for.
            to_console, to_qmp = _connected(folder / "console.sock"), _connected(folder / "qmp.sock")
            self.console.capture(to_console)
            self._stack.callback(self.process.kill)
            deadline = Deadline(_START_TIMEOUT, "QEMU's start")
            self.process.start(argv, [qmp.fileno(), debug.fileno(), console.fileno()], deadline)
            runtime.note_pid(folder, self.process.pid)
            _log.info("%s: QEMU is process %d: %s", self.spec.profile.name, self.process.pid, self.directory / "argv")
        self.debug_socket = folder / "debug.sock"
        self.qmp.connect(to_qmp, deadline)

    def _note_argv(self, ssh_port: int) -> None:
        # As run, but for the wiring: QEMU gets its sockets open, and a shell cannot do that.
        by_hand = self.spec.command_line(Wiring.by_hand(ssh_port))
        text = options.shell(str(self.spec.parts.qemu.path), by_hand)
        (self.directory / "argv").write_text(text + "\n", encoding="utf-8")

    def _connect(self, deadline: Deadline) -> None:
        started = time.monotonic()
        port = self._ssh_port()
        self.session.connect(port, deadline)
        seconds = time.monotonic() - started
        _log.info("%s: SSH on port %d, connected in %.1f s", self.spec.profile.name, port, seconds)

    def _ssh_port(self) -> int:
        answer = self.qmp.execute("human-monitor-command", command_line="info usernet")
        match = _FORWARD.search(answer)
        if match is None:
            raise QmpLost(f"QEMU names no forwarded port: {answer[:500]!r}")
        return int(match.group(1))

    def _lost(self, reason: str) -> None:
        self.session.abort(reason)

    def _check_records(self) -> None:
        for broken in (self.console.broken, self.qmp.broken, self.session.broken):
            if broken is not None:
                raise CouldNotRun(f"the run's records cannot be written: {broken.strerror}", stage=Stage.QEMU)

    def _explained(self, why: str) -> CouldNotRun:
        """Say at which stage the machine was lost, with the last words of its console and where to look further."""
        self.settle()
        stage = self.health.stage
        if self.health.exit is not None and stage is Stage.QEMU:
            why = str(self.health.exit)
        tail = "\n".join(f"  | {line}" for line in self.console.tail(_EVIDENCE_LINES)) or "  (nothing)"
        detail = f"last lines of the console:\n{tail}\ncommand: {self.directory / 'argv'}\nlogs:    {self.directory}"
        return CouldNotRun(f"machine {self.spec.profile.name} lost at stage {stage}: {why}", stage=stage, detail=detail)


@contextmanager
def booted(spec: Spec, directory: Path, timeout: float, *, ssh_port: int = 0) -> Iterator[Machine]:
    """Boot a machine, give it to the block, and end it; raises `CouldNotRun` when it does not come up."""
    machine = Machine(spec, directory)
    try:
        machine.boot(timeout, ssh_port=ssh_port)
        yield machine
    finally:
        machine.close()


def _addresses(buses: list[dict[str, Any]]) -> dict[str, Bdf]:
    """Map QEMU ids to addresses in an answer of query-pci, whose bridges hold further buses."""
    found: dict[str, Bdf] = {}
    for bus in buses:
        for device in bus["devices"]:
            if device.get("qdev_id"):
                found[device["qdev_id"]] = Bdf(0, device["bus"], device["slot"], device["function"])
            bridge = device.get("pci_bridge")
            if bridge and "devices" in bridge:
                found |= _addresses([{"devices": bridge["devices"]}])
    return found


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        yield listener


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


def _handed(listener: socket.socket, *, wait: bool = False) -> str:
    return f"socket,fd={listener.fileno()},server=on,wait={'on' if wait else 'off'}"
