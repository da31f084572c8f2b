# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast lane: Python devices behind root ports of a QEMU without a guest, reached over qtest. Up in 50 ms."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.deadline import Deadline, DeadlineExpired
from harness.device.device import Device
from harness.device.overlay import QOM_TYPE
from harness.errors import UsageError
from harness.machine import devices
from harness.machine.sanitizers import Sanitizers
from harness.qemu import runtime
from harness.qemu.ecam import Board, EcamFunction
from harness.qemu.loop import the_loop
from harness.qemu.process import Exit, QemuDied, QemuProcess
from harness.qemu.qtest import Qtest, QtestLost

_FIRST_PORT = 8
"""The first root port's device number on bus 0; the others follow."""
_MOST_PORTS = 23
"""Root ports that fit between the first one's slot and the ICH9, which is device 31 of q35."""
_START_TIMEOUT = 30.0
_END_TIMEOUT = 30.0
"""Seconds: 0.1 s is usual, but one with sanitizers looks through its memory first."""
_OPTIONS = (
    "-no-user-config", "-nodefaults", "-display", "none", "-m", "64M",
    "-machine", "q35,usb=off,smbus=off,sata=off,vmport=off",
    "-accel", "qtest", "-qtest-log", "none",
)  # fmt: skip


class Lane:
    """A running QEMU and the functions behind its root ports: the one numbered `n`, from 0, is on bus `n + 1`."""

    def __init__(self, qtest: Qtest, served: Sequence[Device]) -> None:
        self.qtest = qtest
        self.devices = tuple(served)
        self.board = Board(qtest)
        for number in range(len(served)):
            self.board.open_port(_FIRST_PORT + number, number + 1)

    def function(self, number: int = 0) -> EcamFunction:
        """Give a function by its number."""
        return self.board.function(number + 1)

    def check(self) -> None:
        """Raise what a model did wrong."""
        devices.check(self.devices)


@contextmanager
def running(
    qemu: Path, served: Sequence[Device], *, overlays: Sequence[Mapping[str, object]] = (), **properties: object
) -> Iterator[Lane]:
    """Start a QEMU with these devices, each behind a root port of its own; both end with the block.

    `properties` are further ones of vfio-user-pci, an underscore standing for a dash; their ids are `device0` and so
    on, for the `overlays` (properties of iov-overlay) that there are. Raises `ModelFailed` where a
    model is wrong, whatever came of that; `QemuDied` where QEMU does not start, has ended when the block ends, or then
    does not end well; `DeadlineExpired` where it does not end at all.
    """
    if len(served) > _MOST_PORTS:
        raise UsageError(f"{len(served)} devices: a lane has {_MOST_PORTS} root ports")
    try:
        with _started(qemu, served, overlays, properties) as lane:
            yield lane
    finally:  # also when all threads of the devices have ended
        devices.check(served)


@contextmanager
def _started(
    qemu: Path, served: Sequence[Device], overlays: Sequence[Mapping[str, object]], properties: Mapping[str, object]
) -> Iterator[Lane]:
    process = QemuProcess(the_loop(), lambda _: None)
    with ExitStack() as stack:
        folder = stack.enter_context(runtime.private_folder())
        sanitizers = Sanitizers(folder)
        for number, device in enumerate(served):
            stack.enter_context(devices.at_socket(device, _socket(folder, number), None))
        ours, qemus = socket.socketpair()
        stack.callback(ours.close)
        with qemus:
            channel = ["-chardev", f"socket,id=qtest,fd={qemus.fileno()}", "-qtest", "chardev:qtest"]
            stack.callback(process.kill)
            behind = (*_overlays(overlays), *_devices(len(served), folder, properties))
            argv = ["env", *sanitizers.environment, str(qemu), *_OPTIONS, *channel, *behind]
            process.start(argv, [qemus.fileno()], Deadline(_START_TIMEOUT, "QEMU's start"))
        runtime.note_pid(folder, process.pid)
        try:
            lane = Lane(Qtest(ours), served)
            yield lane
            lane.qtest.read(0)  # QEMU is still there
        except QtestLost as lost:
            ended = _end(process)
            told = _told(ended, sanitizers)
            raise (QemuDied(told) if told else lost) from lost
        ended = process.end(Deadline(_END_TIMEOUT, "the end of QEMU"))
        if ended.code != 0 or sanitizers.complaint():
            raise QemuDied(_told(ended, sanitizers))


def _told(ended: Exit | None, sanitizers: Sanitizers) -> str:
    return "\n".join(filter(None, [str(ended or ""), sanitizers.complaint()]))


def _overlays(overlays: Sequence[Mapping[str, object]]) -> Iterator[str]:
    for number, one in enumerate(overlays):
        yield from ("-object", json.dumps({"qom-type": QOM_TYPE, "id": f"overlay{number}", **one}))


def _devices(count: int, folder: Path, properties: Mapping[str, object]) -> Iterator[str]:
    further = {name.replace("_", "-"): value for name, value in properties.items()}
    for number in range(count):
        place = {"bus": "pcie.0", "addr": f"{_FIRST_PORT + number:x}", "chassis": number + 1, "slot": number + 1}
        path = {"type": "unix", "path": str(_socket(folder, number))}
        yield from ("-device", json.dumps({"driver": "pcie-root-port", "id": f"rp{number}", **place}))
        client = {"driver": "vfio-user-pci", "id": f"device{number}", "bus": f"rp{number}", "socket": path, **further}
        yield from ("-device", json.dumps(client))


def _socket(folder: Path, number: int) -> Path:
    return folder / f"{number}.sock"


def _end(process: QemuProcess) -> Exit | None:
    """Give how QEMU ended, where it did."""
    try:
        return process.wait(Deadline(_END_TIMEOUT, "the end of QEMU"))
    except DeadlineExpired:
        return None
