# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's own agent, run here with this machine's perl, and asked by the harness's end of its protocol."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import paths
from harness.deadline import Deadline
from harness.guest import agent
from harness.guest.agent import READ_LIMIT, Agent, Answer, Call, result
from harness.guest.ssh import GuestLost, Session

PERL = shutil.which("perl")
SCRIPT = paths.initramfs() / "iov-agent"
NETLINK_KOBJECT_UEVENT = 15
REFUSED = {errno.ENOEXEC, errno.EPERM, errno.ENOSYS}
"""What finit_module(2) says of a file that is no module: as root, as somebody else, where there are no modules."""

pytestmark = pytest.mark.skipif(PERL is None, reason="there is no perl here")


class Channel(socket.socket):
    """A TCP connection that looks like an SSH channel."""

    @property
    def closed(self) -> bool:
        return self.fileno() < 0


class Local(Session):
    """Leads to a port of this machine."""

    def __init__(self, port: int, command: list[str]) -> None:
        self.command = command
        self._port = port
        self._reason = ""

    def open_port(self, port: int, deadline: Deadline) -> Channel:  # type: ignore[override]
        assert port == agent.PORT
        channel = Channel()
        channel.settimeout(deadline.remaining())
        channel.connect(("127.0.0.1", self._port))
        return channel


def processes(command: list[str]) -> list[psutil.Process]:
    """Give what runs this command, the port being nobody else's; a zombie has no command."""
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == command]


def end(command: list[str]) -> None:
    deadline = Deadline(20, "the end of the agent")
    while left := processes(command):
        deadline.check()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """Start the agent, which goes into the background, and end all of it by its process ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(PERL), str(SCRIPT), str(port)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run(command, check=True, timeout=20, **quiet)
        assert processes(command), "it did not go into the background"
        yield Local(port, command)
    finally:
        end(command)


@pytest.fixture
def on(local: Local) -> Iterator[Agent]:
    """Give a connection to the agent."""
    made = Agent(local)
    yield made
    made.close()


def test_a_file_is_read_from_an_offset_on_up_to_a_length(on: Agent, tmp_path: Path) -> None:
    data = bytes(range(256)) * 16
    (tmp_path / "f").write_bytes(data)
    path = str(tmp_path / "f")
    portions = [(0, READ_LIMIT), (0, 0), (16, 4), (4095, 4), (4096, 1), (9999, 1)]
    answers = on.batch([agent.read(path, *portion) for portion in portions])
    assert [answer.value() for answer in answers] == [data[start : start + length] for start, length in portions]


def test_a_read_is_one_of_the_whole_even_where_the_kernel_gives_it_bit_by_bit(on: Agent) -> None:
    assert len(on.call(agent.read("/dev/zero")).value()) == READ_LIMIT
    assert on.call(agent.read("/proc/self/environ", 0, 0)).value() == b""


def test_bytes_are_written_over_what_is_there(on: Agent, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123")
    assert on.call(agent.write(str(path), b"\n\0")).value() == b"2"
    assert path.read_bytes() == b"\n\x0023"


def test_bytes_are_written_from_an_offset_on(on: Agent, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123")
    assert on.call(agent.write(str(path), b"ab", 1)).value() == b"2"
    assert path.read_bytes() == b"0ab3"


def test_a_file_has_permissions(on: Agent, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    path.chmod(0o240)
    assert int(on.call(agent.mode(str(path))).value()) & 0o7777 == 0o240
    assert on.call(agent.mode(str(tmp_path / "none"))).errno == errno.ENOENT


def test_a_write_of_no_bytes_is_a_write(on: Agent, tmp_path: Path) -> None:
    """`/dev/full` refuses any write(2), also of nothing; without one, nobody would have refused."""
    (tmp_path / "f").write_bytes(b"0123")
    assert on.call(agent.write(str(tmp_path / "f"), b"")).value() == b"0"
    assert (tmp_path / "f").read_bytes() == b"0123"
    assert on.call(agent.write("/dev/full", b"")).errno == errno.ENOSPC


@pytest.mark.parametrize("name", [b"plain", b"a b\nc", "grün".encode(), b"\xff\xfe"])
def test_a_name_may_hold_anything(on: Agent, tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    assert on.call(agent.names(str(tmp_path))).value() == name


def test_a_folder_is_listed_in_order_without_itself_and_its_parent(on: Agent, tmp_path: Path) -> None:
    assert on.call(agent.names(str(tmp_path))).value() == b""
    for name in ("b", ".c", "a"):
        (tmp_path / name).touch()
    assert on.call(agent.names(str(tmp_path))).value() == b".c\0a\0b"


def test_a_link_is_read_and_not_followed(on: Agent, tmp_path: Path) -> None:
    (tmp_path / "f").touch(mode=0o640)
    (tmp_path / "l").symlink_to("../nowhere at all")
    assert on.call(agent.link(str(tmp_path / "l"))).value() == b"../nowhere at all"
    mode, of_link = (int(on.call(Call("mode", str(tmp_path / name))).value()) for name in "fl")
    assert mode == stat.S_IFREG | 0o640
    assert stat.S_ISLNK(of_link)


FOLDER, FILE, NOWHERE = "/", "/proc/self/stat", "/nowhere/at all"
FAILURES = [
    (agent.read(NOWHERE), errno.ENOENT),
    (agent.read(f"{FILE}/x"), errno.ENOTDIR),
    (agent.read(FOLDER), errno.EISDIR),
    (agent.read("/dev/null/"), errno.ENOTDIR),
    (agent.read(""), errno.ENOENT),
    (agent.write(NOWHERE, b"x"), errno.ENOENT),
    (agent.write(FOLDER, b"x"), errno.EISDIR),
    (agent.write("/dev/full", b"x"), errno.ENOSPC),
    (agent.names(NOWHERE), errno.ENOENT),
    (agent.names(FILE), errno.ENOTDIR),
    (agent.link(NOWHERE), errno.ENOENT),
    (agent.link(FOLDER), errno.EINVAL),
    (Call("mode", NOWHERE), errno.ENOENT),
    (agent.insert(NOWHERE), errno.ENOENT),
    (Call("clock", "", ("1", "2000000000")), errno.EINVAL),
]


@pytest.mark.parametrize(("call", "number"), FAILURES, ids=lambda it: it.name if isinstance(it, Call) else "")
def test_what_fails_fails_with_the_errno_of_its_system_call(on: Agent, call: Call, number: int) -> None:
    assert on.call(call) == Answer(call, number, b"")


def test_a_failure_says_nothing_of_the_call_after_it(on: Agent) -> None:
    answers = on.batch([call for failing, _ in FAILURES for call in (failing, agent.read("/dev/zero", 0, 1))])
    assert [answer.errno for answer in answers[::2]] == [number for _, number in FAILURES]
    assert {answer.value() for answer in answers[1::2]} == {b"\0"}


def test_no_file_comes_into_being_by_being_written(on: Agent, tmp_path: Path) -> None:
    assert on.call(agent.write(str(tmp_path / "f"), b"x")).errno == errno.ENOENT
    assert not (tmp_path / "f").exists()


def test_a_file_that_is_no_module_is_not_loaded(on: Agent, tmp_path: Path) -> None:
    (tmp_path / "f.ko").write_bytes(b"no ELF file")
    assert on.call(agent.insert(str(tmp_path / "f.ko"))).errno in REFUSED


def test_a_module_that_is_not_loaded_is_not_unloaded(on: Agent) -> None:
    assert on.call(agent.remove("no_such_module_of_iov_harness")).errno in {errno.ENOENT, errno.EPERM, errno.ENOSYS}


GETPID, PIPE, READ, WRITE, CLOSE = 39, 22, 0, 1, 3  # system calls on x86-64


def test_any_system_call_gives_its_result(on: Agent, local: Local) -> None:
    pid, buffers = result(on.call(agent.syscall(GETPID)))
    assert (psutil.Process(pid).cmdline(), buffers) == (local.command, [])


def test_a_system_call_reads_and_writes_the_buffers_that_it_is_given(on: Agent) -> None:
    _, [ends] = result(on.call(agent.syscall(PIPE, bytes(8))))
    reading, writing = (int.from_bytes(ends[place : place + 4], "little") for place in (0, 4))
    data = bytes(range(256)) + b"-1 =ff"
    assert result(on.call(agent.syscall(WRITE, writing, data, len(data))))[0] == len(data)
    assert result(on.call(agent.syscall(READ, reading, bytes(300), 300))) == (
        len(data),
        [data + bytes(300 - len(data))],
    )
    assert result(on.call(agent.syscall(CLOSE, reading))) == (0, [])


def test_a_system_call_fails_with_its_errno(on: Agent) -> None:
    failed = on.call(agent.syscall(READ, -1, bytes(4), 4, what="reading nothing"))
    assert failed.errno == errno.EBADF
    with pytest.raises(agent.GuestErrno, match="reading nothing: EBADF"):
        result(failed)


@pytest.mark.parametrize("said", [b"", b"x", b"1 zz", b"\xff", b"1.5"])
def test_a_result_that_is_none_is_the_guests_fault(said: bytes) -> None:
    with pytest.raises(GuestLost, match="answers nonsense"):
        result(Answer(agent.syscall(GETPID), 0, said))


def test_two_connections_are_served_at_a_time(local: Local) -> None:
    """The first stops in the midst of a request, and is answered when it has finished that."""
    deadline = Deadline(20, "x")
    with local.open_port(agent.PORT, deadline) as first, local.open_port(agent.PORT, deadline) as second:
        first.sendall(b"7 read ")
        second.sendall(b"8 read " + b"/dev/zero".hex().encode() + b" 0 1\n")
        assert second.recv(100) == b"8 0 00\n"
        first.sendall(b"/dev/null".hex().encode() + b" 0 1\n")
        assert first.recv(100) == b"7 0 \n"


def test_nonsense_ends_its_own_connection_alone(local: Local, on: Agent) -> None:
    on.call(agent.read("/dev/zero", 0, 1)).value()
    other = Agent(local)
    with pytest.raises(GuestLost, match="its agent ended"):
        other.call(Call("format", "/"))
    assert on.call(agent.read("/dev/zero", 0, 1)).value() == b"\0"
    assert other.call(agent.read("/dev/zero", 0, 1)).value() == b"\0"
    other.close()


def test_connections_that_end_leave_no_process(local: Local) -> None:
    deadline = Deadline(20, "the end of what served a connection")
    at_rest = 2  # one listens, one is, or is about to be, ready for the next connection
    while len(processes(local.command)) > at_rest:
        deadline.check()
    for _ in range(3):
        other = Agent(local)
        other.call(agent.read("/dev/null")).value()
        other.close()
    while len(processes(local.command)) > at_rest:
        deadline.check()


class Kernel:
    """Sends uevents to all who listen, under a port of its own, by which udev knows that they are not the kernel's."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
        self.socket.settimeout(20)
        self.socket.bind((0, 0))
        self.port = self.socket.getsockname()[0]

    def say(self, message: bytes) -> None:
        self.socket.sendto(message, (self.port, 1))
        assert self.socket.recv(len(message)) == message  # one copy comes back, and would fill the socket


@pytest.fixture
def kernel(on: Agent) -> Iterator[Kernel]:
    """Give a kernel to which the agent listens."""
    heard = on.call(agent.listen())
    if heard.errno in {errno.EPERM, errno.EPROTONOSUPPORT}:
        pytest.skip(f"uevents cannot be listened to here: {agent.errno_name(heard.errno)}")
    assert heard.value() == b""
    made = Kernel()
    yield made
    made.socket.close()


def uevents(on: Agent, patience: float) -> list[bytes]:
    """Give those uevents of this test that came; the machine may have some of its own."""
    found = on.call(agent.uevents(patience)).value().split(b"\n")
    return [event for event in found if event.startswith(b"iov-test@")]


def test_uevents_are_kept_until_they_are_asked_for_and_given_once(kernel: Kernel, on: Agent) -> None:
    one, two = b"iov-test@/1\0A=1\0", b"iov-test@/2\0" + b"x" * 2048
    deadline = Deadline(10, "x")
    kernel.say(one)
    kernel.say(two)
    assert uevents(on, 20) == [one, two]
    assert uevents(on, 0) == []
    kernel.say(one)
    assert uevents(on, 20) == [one]
    assert not deadline.expired, "what is there is given at once"


def test_many_uevents_are_kept(kernel: Kernel, on: Agent) -> None:
    messages = [b"iov-test@/%d\0" % number for number in range(500)]
    for message in messages:
        kernel.say(message)
    assert uevents(on, 20) == messages


@pytest.mark.usefixtures("kernel")
def test_uevents_that_do_not_come_are_waited_for_no_longer_than_asked(on: Agent) -> None:
    deadline = Deadline(10, "x")
    assert uevents(on, 0.05) == []
    assert not deadline.expired


def test_uevents_are_those_of_the_connection_that_listens(kernel: Kernel, on: Agent, local: Local) -> None:
    kernel.say(b"iov-test@/1\0")
    other = Agent(local)
    assert other.call(agent.uevents(0)).errno == errno.EBADF
    other.close()
    assert uevents(on, 20) == [b"iov-test@/1\0"]
