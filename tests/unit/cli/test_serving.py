# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness device serve` as a user runs it: a process that a client finds at its socket, until it is told to end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from harness.device.device import CONFIG
from harness.device.vfio_user import wire
from harness.device.vfio_user.wire import Command, Header

TIMEOUT = 60.0
HARNESS = (sys.executable, "-c", "from harness.cli import main; main()", "device", "serve")
FLAWED = """
import threading
from harness.device.config_space import Bar, Identity
from harness.device.device import Device
from harness.device.registers import Register

class Flawed(Device):
    def __init__(self) -> None:
        registers = (Register("wrong", 0, 4, rw=1), Register("hang", 4, 4, rw=1))
        super().__init__(Identity(1, 2), [], {0: Bar(16, registers)})
        self.bars[0].on_write("wrong", lambda *_: self.later(lambda: 1 / 0))
        self.bars[0].on_write("hang", lambda *_: self.later(threading.Event().wait))
"""


@pytest.fixture(autouse=True)
def _as_at_a_prompt() -> Iterator[None]:
    """A run in the background, such as a nightly one, may have signals ignored; so would what it starts."""
    with ExitStack() as stack:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:
                stack.callback(signal.signal, number, signal.signal(number, signal.SIG_DFL))
        yield


class Serving:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process = process
        self.path = path
        self.told: list[str] = []

    def tells(self, text: str) -> str:
        """Wait until it says on standard error something with `text` in it, and give that line."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended without {text!r}: {self.told}")

    def ended(self, by: int | None = signal.SIGINT) -> int:
        """Give the exit status after a signal; what it says meanwhile is added to `told`."""
        if by is not None:
            self.process.send_signal(by)
        out, err = self.process.communicate(timeout=TIMEOUT)
        self.told += [out, err]
        return self.process.returncode

    def printed(self) -> list[str]:
        """Give the lines on standard output, once it has ended."""
        return self.told[-2].splitlines()


@contextmanager
def serving(folder: Path, *arguments: str, model: str = "siov", umask: int = -1) -> Iterator[Serving]:
    path = folder / "s"
    command = [*HARNESS, model, "--socket", str(path), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, umask=umask
    ) as process:
        guard = threading.Timer(TIMEOUT, process.kill)
        guard.start()
        try:
            made = Serving(process, path)
            made.tells("-device ")
            yield made
        finally:
            guard.cancel()
            process.kill()


class Client:
    """A connection as QEMU makes it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect(str(path))
        self.ask(Command.VERSION, b"\0\0\0\0")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: Command, body: bytes) -> bytes:
        self._socket.sendall(wire.HEADER.pack(7, command, wire.HEADER.size + len(body), 0, 0) + body)
        header = Header._make(wire.HEADER.unpack(self._exactly(wire.HEADER.size)))
        assert (header.id, header.command, header.flags, header.error) == (7, command, wire.REPLY, 0)
        return self._exactly(header.size - wire.HEADER.size)

    def read(self, region: int, offset: int, count: int) -> bytes:
        reply = self.ask(Command.REGION_READ, wire.REGION_ACCESS.pack(offset, region, count))
        return reply[wire.REGION_ACCESS.size :]

    def write(self, region: int, offset: int, value: int) -> None:
        body = wire.REGION_ACCESS.pack(offset, region, 4) + value.to_bytes(4, "little")
        self.ask(Command.REGION_WRITE, body)

    def _exactly(self, count: int) -> bytes:
        data = self._socket.recv(count, socket.MSG_WAITALL) if count else b""
        assert len(data) == count
        return data


def test_a_served_device_answers_and_is_told_of_until_ctrl_c(tmp_path: Path) -> None:
    with serving(tmp_path, "-p", "total_sdis=2", "-v", "--log", "log") as server:
        with Client(server.path) as client:
            server.tells("QEMU has connected")
            assert client.read(CONFIG, 0x10C, 4) == bytes.fromhex("3800c111")
            client.read(CONFIG, 0, 256)
            client.write(0, 0x10, 1)
            client.write(2, 4, 3)
        server.tells("QEMU has disconnected")
        with Client(server.path) as client:
            server.tells("QEMU has connected")
            assert client.read(0, 0x08, 4) == b"\1\0\0\0"
            assert server.ended() == 0
    assert server.told[-1] == "QEMU has disconnected\n"
    accesses = [line.split(maxsplit=1)[1] for line in server.printed()]
    assert accesses == [
        "connected",
        "read       config 0x10c  4 bytes 0x11c10038  siov_header",
        "read       config 0x000  256 bytes",
        "write      BAR 0 0x010  4 bytes 0x00000001  control",
        "write      BAR 2 0x004  4 bytes 0x00000003  doorbell[1]",
        "disconnected",
        "connected",
        "read       BAR 0 0x008  4 bytes 0x00000001  enabled_sdis",
        "disconnected",
    ]
    logged: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [one["kind"] for one in logged] == [line.split()[0] for line in accesses]
    assert logged[1].keys() == {"time", "kind", "region", "offset", "length", "value"}
    assert not server.path.exists()


def test_only_its_owner_may_connect_and_the_option_says_where(tmp_path: Path) -> None:
    with serving(tmp_path, umask=0) as server:
        mode = server.path.stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
        name, argument = shlex.split(server.told[-1])
        assert name == "-device"
        assert json.loads(argument)["socket"] == {"type": "unix", "path": str(server.path)}


def test_without_v_nothing_is_printed(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with Client(server.path) as client:
            client.read(CONFIG, 0, 4)
        server.tells("disconnected")
        server.ended()
    assert server.printed() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_in_order_too(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as server, Client(server.path):
        assert server.ended(number) == 0
    assert not server.path.exists()


def test_a_killed_server_leaves_a_socket_that_the_next_one_knows_to_be_stale(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.ended(signal.SIGKILL)
    done = subprocess.run(
        [*HARNESS, "siov", "--socket", str(server.path)], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"harness: --socket {server.path}: nobody listens there any more; remove what is left: rm {server.path}\n"
    )


def test_it_ends_quietly_when_nobody_reads_its_output_any_more(tmp_path: Path) -> None:
    with serving(tmp_path, "-v") as server:
        assert server.process.stdout is not None
        assert server.process.stderr is not None
        server.process.stdout.close()
        with Client(server.path):
            assert server.process.wait(TIMEOUT) == 141
        assert "Traceback" not in server.process.stderr.read()
    assert not server.path.exists()


def test_a_log_that_cannot_be_written_on_is_told_at_the_end(tmp_path: Path) -> None:
    with serving(tmp_path, "--log", "/dev/full") as server:
        with Client(server.path) as client:
            client.read(CONFIG, 0, 4)
        server.tells("disconnected")
        assert server.ended() == 3
    assert server.told[-1] == "harness: --log /dev/full: No space left on device: what came then is not in it\n"


def test_what_a_model_does_wrong_is_told_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "flawed.py").write_text(FLAWED)
    with serving(tmp_path, model="flawed.py:Flawed") as server:
        with Client(server.path) as client:
            client.write(0, 0, 1)
            server.tells("ZeroDivisionError: division by zero")
        assert server.ended() == 4
    assert "Flawed: the model failed" in "".join(server.told)
    assert not server.path.exists()


def test_a_model_that_hangs_is_ended_by_a_second_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "flawed.py").write_text(FLAWED)
    with serving(tmp_path, model="flawed.py:Flawed") as server:
        with Client(server.path) as client:
            client.write(0, 4, 1)
            server.process.send_signal(signal.SIGINT)
            assert client._socket.recv(1) == b""  # the first one was heard
        assert server.ended() == 130
    assert not server.path.exists()


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serving(tmp_path) as server:
            os.kill(server.process.pid, signal.SIGHUP)
            with Client(server.path) as client:
                assert client.read(CONFIG, 0, 2) == b"\x36\x1b"
            server.tells("disconnected")
            assert server.ended() == 0
    finally:
        signal.signal(signal.SIGHUP, before)
