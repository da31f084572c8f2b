# SPDX-License-Identifier: GPL-2.0-or-later
"""A running machine: QEMU, QMP, console and SSH in one owner, from power-on until nothing of it is left."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.deadline import Deadline, DeadlineExpired
from harness.device import models
from harness.device.device import Device
from harness.device.overlay import QOM_TYPE, Overlay
from harness.errors import CouldNotRun, GuestFailure, MachineLost, Stage, UsageError
from harness.guest import agent
from harness.guest.console import Console
from harness.guest.guest import Guest
from harness.guest.link import Link
from harness.guest.pci import Function
from harness.guest.ssh import GuestLost, GuestTimeout, Session
from harness.machine import checkpoint, devices, evidence, introspection, plugging, record, sockets, topology
from harness.machine.checkpoint import Checkpoint, NotMigrated
from harness.machine.health import Health
from harness.machine.overlays import Overlays
from harness.machine.parts import without_overlay
from harness.machine.spec import Spec
from harness.qemu import options, runtime
from harness.qemu.hotplug import Plug
from harness.qemu.loop import the_loop
from harness.qemu.options import Option
from harness.qemu.process import QemuProcess
from harness.qemu.qmp import CommandRefused, Monitor, QmpLost
from harness.qemu.template import Wiring
from harness.text import printable

if TYPE_CHECKING:
    from harness.guest.introspect.state import KernelState

_log = logging.getLogger(__name__)

_START_TIMEOUT = 30.0
"""Seconds for QEMU to start and greet over QMP: 0.1 s when idle."""
_SETTLE_TIMEOUT = 3.0
"""Seconds to wait for the last words of a QEMU that may be beyond any."""
_PLUG_TIMEOUT = 60.0
"""Seconds for the guest to take or let go of a device: under a second on an idle machine."""
_ALONE = "iov-harness: alone"
_TELL_WHEN_ALONE = (
    "session=$PPID; (while [ -e /proc/$session ]; do usleep 10000; done; "
    f"echo '<4>{_ALONE}' >/dev/kmsg) </dev/null >/dev/null 2>&1 &"
)
_EVIDENCE_LINES = 25
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")


_CommandLine = Callable[[Wiring], tuple[Option, ...]]


class Machine:
    """A machine that is started once, by `boot`, `boot_base` or `clone`; nothing of it outlives its `close`."""

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
        self.start: Literal["cold", "base", "clone"] = "cold"
        self.refuses_checkpoint = False
        self.boots = 1
        self.milestones: dict[str, float] = {}
        self.devices: dict[str, Device] = {}
        self._folder: Path | None = None
        self._wiring = Wiring.by_hand()
        self._attached: dict[str, Plug] = {}
        self._overlays: Overlays | None = None
        self._link: Link | None = None
        self._stack = ExitStack()
        self._started = 0.0

    @property
    def loss(self) -> str | None:
        """Why the machine is of no more use (a panic, the end of QEMU); None while it runs."""
        return self.health.loss

    def function(self, device: str) -> Function:
        """Give the guest's view of the function whose QEMU id is `device`; raises `LookupError` for an unknown id."""
        found = topology.addresses(self.qmp)
        if device not in found:
            raise LookupError(f"QEMU has no PCI device with the id {device!r}; it has {', '.join(sorted(found))}")
        return self.guest.function(found[device])

    def about(self) -> dict[str, Any]:
        """Give what a record of a run says of the machine.

        `milestones` are seconds from the start of QEMU: `ssh`, when the guest had answered its first request, and
        the ids of what was plugged, when the guest's kernel had finished with it. `saved` is how long a save took.
        `boots` counts those that came to nothing, too (`harness.machine.attempts`), where there were any.
        """
        boots = {"boots": self.boots} if self.boots > 1 else {}
        return {**self.spec.about(), "start": self.start, "milestones": self.milestones, **boots}

    @property
    def age(self) -> float:
        """Seconds since the start of QEMU."""
        return time.monotonic() - self._started

    @property
    def pfs(self) -> list[Function]:
        """The physical functions of the profile, in the profile's order."""
        return [self.function(device) for device in self.spec.profile.pfs]

    def boot(self, timeout: float, *, ssh_port: int = 0) -> None:
        """Power on and wait until the guest answers over SSH and its drivers have met their devices.

        Raises `MachineLost` with the stage at which it was lost, and what is needed to find out why.
        """
        with self._coming_up(timeout, "the guest's first SSH session") as deadline:
            self._boot(self.spec.command_line, deadline, ssh_port)
            self._connect(deadline)
        self._check_overlays()

    def boot_base(self, ram: Path, timeout: float) -> None:
        """Boot the base machine, without what is plugged, whose memory is the new file `ram`; raises as `boot`."""
        self.start = "base"
        with self._coming_up(timeout, "the base machine's first SSH session") as deadline:
            self._boot(lambda wiring: self.spec.base_line(wiring, ram), deadline, 0)
            # Not over the link, which stays as it is for the clones.
            self.session.connect(self.ssh_port, deadline)
            self._answer(deadline)

    def clone(self, source: Checkpoint, timeout: float, *, ssh_port: int = 0) -> None:
        """Go on where a checkpoint was made, with all devices plugged in; raises as `boot`.

        A guest cannot tell it from a boot: its clock is right; QEMU gives it a new VM generation ID, with which it
        seeds its random numbers anew; its console has said what that of the base machine had.
        """
        with self._coming_up(timeout, "a clone with its devices") as deadline:
            self.start = "clone"
            self.console.recall(source.console.read_bytes())
            greeting = source.greeting.read_bytes()
            self._start(lambda wiring: self.spec.clone_line(wiring, source.ram), ssh_port, greeting)
            self.refuses_checkpoint = True  # until it has taken it
            checkpoint.restore(self.qmp, source, deadline)
            self.refuses_checkpoint = False
            self.health.restored()
            self._connect(deadline)
            self.health.connected()
            plugging.plug(self.qmp, self.guest, self.spec.plugs(self._wiring), deadline, self._reached)
        self._check_overlays()

    def overlay(self, device: str, vf: int | None = None) -> Overlay:
        """Give what changes what the guest sees of a function's configuration space: a device's, or a VF's of a PF.

        It shows nothing by itself. Raises `UsageError` where QEMU has no such device, or no overlays.
        """
        return self.overlays.get(device, vf)

    @property
    def overlays(self) -> Overlays:
        """All overlays of the machine's functions; raises `UsageError` where QEMU has none."""
        if not self.spec.parts.qemu.has_overlay:
            raise UsageError(without_overlay(self.spec.parts.qemu))
        if self._overlays is None:
            self._overlays = Overlays(self.qmp, self.spec.objects(self._wiring))
        return self._overlays

    def _check_overlays(self) -> None:
        if QOM_TYPE in self.spec.profile.requires.objects:
            self.overlays.check()

    def plug(self, name: str, timeout: float = _PLUG_TIMEOUT) -> None:
        """Plug a device of the profile, or one that was attached, in again; waits until the guest has finished with it.

        Raises `LookupError` for a name that is none, `GuestTimeout`.
        """
        plugs = {one.name: one for one in self.spec.plugs(self._wiring)} | self._attached
        if name not in plugs:
            raise LookupError(
                f"profile {self.spec.profile.name} plugs no {name!r}, but {', '.join(plugs) or 'nothing'}"
            )
        with _guest_late():
            plugging.plug(self.qmp, self.guest, [plugs[name]], Deadline(timeout, f"plugging {name}"))

    def attach(self, device: Device, bus: str, name: str = "attached0", timeout: float = _PLUG_TIMEOUT) -> Function:
        """Serve a device of the test's own and plug it into an empty `bus`; gives the guest's view of it.

        It is ready when the guest's kernel has finished with it, and served until the machine ends. Raises
        `UsageError` where QEMU refuses it, `GuestTimeout` where the guest does not see it.
        """
        models.check(device, "attach")
        if name in self.devices:
            raise LookupError(f"the machine has a device {name!r} already: attach this one under another name")
        self._serve({name: device})
        socket = {"type": "unix", "path": self._wiring.device(name)}
        properties = {"driver": "vfio-user-pci", "id": name, "bus": bus, "socket": socket}
        self._attached[name] = Plug(name, "-device", properties)
        try:
            self.plug(name, timeout)
        except CommandRefused as refused:
            raise UsageError(f"QEMU does not plug {name} into {bus}: {refused.desc}") from None
        return self.function(name)

    def unplug(self, name: str, timeout: float = _PLUG_TIMEOUT) -> None:
        """Unplug a device, and wait until the guest has let go of it.

        Raises `CommandRefused` or `GuestTimeout`; `UsageError` for a Python device with MSI-X, which QEMU 11.1 would
        not survive.
        """
        if name in self.devices and self.devices[name].vectors:
            raise UsageError(f"{name} has MSI-X, and QEMU 11.1 aborts when such a Python device is unplugged")
        with _guest_late():
            plugging.unplug(self.qmp, name, Deadline(timeout, f"unplugging {name}"))

    @contextmanager
    def introspect(self, *, paused: bool = False) -> Iterator[KernelState]:
        """Look into the guest's kernel from outside, over the second QMP socket, which is taken as long as that lasts.

        Works on a guest that no longer answers, and on one that has panicked. With `paused` its CPUs stand still
        meanwhile, so that all that is read is of one moment; nothing may then be asked of the guest. Raises
        `CannotIntrospect` for a kernel without debug information, `NotAttached` where a debugger has the socket.
        """
        assert self.debug_socket is not None  # noqa: S101 - it was started
        with introspection.opened(self.spec.parts.kernel, self.debug_socket, self.qmp, paused=paused) as state:
            yield state

    def save(self, to: Checkpoint, timeout: float) -> None:
        """Stop a base machine whose guest has no trace of us left, and keep its state; raises as `boot`."""
        with self._coming_up(timeout, "a checkpoint of the base machine") as deadline:
            self.guest.run(_TELL_WHEN_ALONE, check=True)
            self.session.close()
            self.console.wait_line(_ALONE, deadline)
            to.greeting.write_bytes(self._greeted(deadline).greeting(deadline))
            started = time.monotonic()
            checkpoint.save(self.qmp, to, deadline)
            self.milestones["saved"] = time.monotonic() - started

    def drain(self) -> None:
        """Wait until all that the kernel has said until now has arrived.

        Raises `GuestTimeout` or `GuestLost`, and `CouldNotRun` where the run's records of it cannot be written; before
        all others `ModelFailed`, for where a Python device is wrong the rest may follow from that.
        """
        try:
            if self.loss is None:
                self.guest.drain()
            else:
                self.settle()
        except GuestLost:
            self.settle()
            raise
        finally:
            devices.check(self.devices.values())
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
        """End QEMU and let go of everything; QEMU is gone when this returns. Raises `ModelFailed` as `drain`."""
        self._stack.close()
        devices.check(self.devices.values())

    def _boot(self, line: _CommandLine, deadline: Deadline, ssh_port: int) -> None:
        self._start(line, ssh_port)
        self.health.started()
        self.health.wait(deadline)
        if self.loss is not None:
            raise GuestLost(self.loss)

    @contextmanager
    def _coming_up(self, timeout: float, what: str) -> Iterator[Deadline]:
        """Tell in one way whatever keeps the machine from coming up in the block."""
        try:
            yield Deadline(timeout, what)
        except (CommandRefused, NotMigrated) as error:
            raise self._explained(str(error), Stage.QEMU) from error
        except (DeadlineExpired, GuestFailure) as error:
            raise self._explained(str(error), self.health.stage) from error
        if self.loss is not None:
            raise self._explained(self.loss, self.health.stage)

    def _start(self, line: _CommandLine, ssh_port: int, greeting: bytes = b"") -> None:
        """Start QEMU, with `greeting` as what the guest's SSH server has said on the link before."""
        self._started = time.monotonic()
        folder = self._stack.enter_context(runtime.private_folder())
        self._folder = folder
        sockets.devices_folder(folder).mkdir(mode=0o700)
        if self.start != "base":  # which has nothing plugged
            self._serve(self.spec.devices())
        self._stack.callback(self.console.close)
        self._stack.callback(self.qmp.close)
        self._stack.callback(self.session.close)
        with sockets.opened(folder) as ours:
            self._wiring = ours.wiring(ssh_port)
            self._note_argv(line, ssh_port)
            argv = [str(self.spec.parts.qemu.path), *options.argv(line(self._wiring))]
            to_console, to_qmp = ours.connected("console"), ours.connected("qmp")
            self._link = self._stack.enter_context(Link(ours.connected("link"), greeting))
            self.console.capture(to_console)
            self._stack.callback(self.process.kill)
            deadline = Deadline(_START_TIMEOUT, "QEMU's start")
            self.process.start(argv, ours.fds, deadline)
            runtime.note_pid(folder, self.process.pid)
            _log.info("%s: QEMU is process %d: %s", self.spec.profile.name, self.process.pid, self.directory / "argv")
        self.debug_socket = folder / "debug.sock"
        self.qmp.connect(to_qmp, deadline)

    def _serve(self, made: Mapping[str, Device]) -> None:
        """Serve devices, each at its socket, until the machine ends."""
        assert self._folder is not None  # noqa: S101 - _start() comes first
        for name, device in made.items():
            devices.check_name(name)
            socket = sockets.devices_folder(self._folder) / f"{name}.sock"
            log = self.directory / f"device-{name}.jsonl"
            self._stack.enter_context(devices.at_socket(device, socket, log))
            self.devices[name] = device

    def _note_argv(self, line: _CommandLine, ssh_port: int) -> None:
        """Write down what is run, but for the wiring: QEMU gets its sockets open, and a shell cannot do that.

        A clone's waits for a checkpoint: beside it lies the line that boots the same machine.
        """
        lines = {"argv": line, **({"argv-cold": self.spec.command_line} if self.start == "clone" else {})}
        with record.told(self.directory):
            for name, one in lines.items():
                wiring = Wiring.by_hand(ssh_port)
                text = self.spec.by_hand(one(wiring), wiring)
                (self.directory / name).write_text(text + "\n", encoding="utf-8")

    def _connect(self, deadline: Deadline) -> None:
        self.session.connect_over(self._greeted(deadline), deadline)
        self._answer(deadline)

    def _greeted(self, deadline: Deadline) -> Link:
        """Give the guest's link, once its SSH server has greeted on it."""
        assert self._link is not None  # noqa: S101 - _start() comes first
        self._link.greeting(deadline)
        return self._link

    def _answer(self, deadline: Deadline) -> None:
        """Have the guest answer its first request: to set its clock, which stood still in a checkpoint."""
        self.guest.agent.call(
            agent.names("/run"), timeout=max(0.1, deadline.remaining())
        )  # time passes while it starts
        self.guest.agent.call(agent.clock(time.time())).value()
        self._reached("ssh")
        _log.info("%s: SSH after %.2f s", self.spec.profile.name, self.milestones["ssh"])

    def _reached(self, milestone: str) -> None:
        self.milestones[milestone] = self.age

    @property
    def ssh_port(self) -> int:
        """The port on loopback that leads to the guest's SSH, for others than the harness."""
        answer = self.qmp.execute("human-monitor-command", command_line="info usernet")
        match = _FORWARD.search(answer)
        if match is None:
            raise QmpLost(f"QEMU names no forwarded port: {answer[:500]!r}")
        return int(match.group(1))

    def gdb(self) -> Path:
        """Have QEMU wait for a debugger of the guest's kernel; gives the socket. Raises `CouldNotRun`."""
        assert self._folder is not None  # noqa: S101 - it was started
        path = self._folder / "gdb.sock"
        if not path.exists():
            stub = f"gdbserver unix:{path},server=on,wait=off"
            said = self.qmp.execute("human-monitor-command", command_line=stub)
            if not path.exists():
                raise CouldNotRun(f"QEMU waits for no debugger: {printable(str(said)).strip()}")
        return path

    def _lost(self, reason: str) -> None:
        self.session.abort(reason)
        self.qmp.abort(reason)
        self.console.abort()
        if self._link is not None:
            self._link.abort()

    def _check_records(self) -> None:
        for broken in (self.console.broken, self.qmp.broken, self.session.broken):
            if broken is not None:
                raise CouldNotRun(f"the run's records cannot be written: {broken.strerror}", stage=Stage.QEMU)

    def _explained(self, why: str, stage: Stage) -> MachineLost:
        """Say at which stage the machine was lost, with the last words of its console and where to look further."""
        self.settle()
        devices.check(self.devices.values())
        if self.health.exit is not None and stage is Stage.QEMU:
            why = str(self.health.exit)
        elif self.loss is not None:
            why = self.loss
        elif stage is not Stage.QEMU:
            evidence.gather(self, self.directory)
        tail = "\n".join(f"  | {line}" for line in self.console.tail(_EVIDENCE_LINES)) or "  (nothing)"
        command = "argv-cold" if self.start == "clone" else "argv"
        detail = f"last lines of the console:\n{tail}\ncommand: {self.directory / command}\nlogs:    {self.directory}"
        profile = self.spec.profile
        name = f"base machine {profile.base}" if self.start == "base" else f"machine {profile.name}"
        return MachineLost(
            f"{name} lost at stage {stage}: {why}",
            stage=stage, detail=detail, complained=bool(self.console.reports()),
        )  # fmt: skip


@contextmanager
def _guest_late() -> Iterator[None]:
    """Hold against the guest what it did not do in time."""
    try:
        yield
    except DeadlineExpired as error:
        raise GuestTimeout(str(error)) from error
