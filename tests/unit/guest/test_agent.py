# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness's end of the agent's protocol, against agents in a guest that answer rightly, wrongly or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import cast

import paramiko
import pytest

from harness.deadline import Deadline
from harness.guest import agent
from harness.guest.agent import Agent, Answer, GuestErrno, WrongErrno, errno_name, raises_errno
from harness.guest.pending import Process
from harness.guest.ssh import GuestLost, GuestTimeout, Session

Speaker = Callable[[str], bytes]
"""What an agent in the guest answers to one request line."""
WINDOW = 2 * 1024 * 1024
ENDED = b"<ended>"


def right(line: str) -> bytes:
    """Answer as iov-agent does: a read gives the file's name, and all else works too."""
    number, call, path, *_ = line.split(" ")
    return f"{number} 0 {path if call == 'read' else ''}\n".encode()


def always(text: bytes) -> Speaker:
    return lambda line: text.replace(b"ID", line.split(" ")[0].encode())


class Channel:
    """A channel to an agent. Each end holds back a window of bytes at most, as paramiko and dropbear do."""

    def __init__(self, speaker: Speaker, portion: int = 1 << 20) -> None:
        self.closed = False
        self.requests: list[str] = []
        self._speaker = speaker
        self._portion = portion
        self._asked = b""
        self._answers = bytearray()

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def send(self, data: bytes) -> int:
        if self.closed:
            raise OSError("Socket is closed")
        if len(self._answers) > WINDOW:
            raise TimeoutError
        taken = data[: self._portion]
        *lines, self._asked = (self._asked + taken).split(b"\n")
        for line in lines:
            self.requests.append(line.decode())
            self._answers += self._speaker(line.decode())
        return len(taken)

    def recv(self, size: int) -> bytes:
        if self._answers.startswith(ENDED):
            return b""
        if not self._answers:
            raise TimeoutError
        end = self._answers.find(ENDED)
        taken = bytes(self._answers[: min(size, self._portion, end if end > 0 else size)])
        del self._answers[: len(taken)]
        return taken

    def close(self) -> None:
        self.closed = True


class Guest(Session):
    """A session with a guest whose agents behave as told, each started agent as the next one told."""

    def __init__(self, *channels: Channel) -> None:
        self._reason = ""
        self._next: Iterator[Channel] = iter(channels)

    def open_port(self, port: int, deadline: Deadline) -> paramiko.Channel:
        assert port == agent.PORT
        deadline.check()
        return cast("paramiko.Channel", next(self._next))

    def abort(self, reason: str) -> None:
        self._reason = reason


def agent_of(*speakers: Speaker) -> Agent:
    return Agent(Guest(*(Channel(speaker) for speaker in speakers)))


@pytest.mark.parametrize(
    ("call", "request_line"),
    [
        (agent.read("/a"), "1 read 2f61 0 65536"),
        (agent.read("/a", 16, 4), "1 read 2f61 16 4"),
        (agent.write("/a", b"7\n"), "1 write 2f61 0 370a"),
        (agent.write("/a", b"", 8), "1 write 2f61 8 "),
        (agent.names("/a"), "1 list 2f61 "),
        (agent.mode("/a"), "1 mode 2f61 "),
        (agent.link("/a b\nc"), "1 link 2f6120620a63 "),
        (agent.read("/ü"), "1 read 2fc3bc 0 65536"),
        (agent.insert("/a"), "1 insert 2f61 "),
        (agent.insert("/a", 'b="1 2"'), "1 insert 2f61 623d2231203222"),
        (agent.remove("a_b"), "1 remove 615f62 "),
        (agent.clock(1_700_000_000.25), "1 clock  1700000000 250000000"),
        (agent.listen(), "1 listen  "),
        (agent.uevents(0.0625), "1 uevents  0.062"),
    ],
)
def test_a_call_is_one_line_in_which_nothing_needs_quoting(call: agent.Call, request_line: str) -> None:
    channel = Channel(right)
    Agent(Guest(channel)).call(call)
    assert channel.requests == [request_line]


@pytest.mark.parametrize("portion", [1, 7, 1 << 20])
def test_answers_come_back_in_order_however_they_are_cut(portion: int) -> None:
    channel = Channel(right, portion)
    on = Agent(Guest(channel))
    paths = [f"/file{number}" for number in range(5)]
    assert [answer.value() for answer in on.batch([agent.read(path) for path in paths])] == [p.encode() for p in paths]
    assert on.call(agent.read("/again")).value() == b"/again"
    assert [line.split(" ")[0] for line in channel.requests] == ["1", "2", "3", "4", "5", "6"]


def test_no_calls_need_no_agent() -> None:
    assert agent_of().batch([]) == []


def test_the_largest_read_is_answered_whole() -> None:
    data = b"\xa5" * agent.READ_LIMIT
    assert agent_of(always(b"ID 0 " + data.hex().encode() + b"\n")).call(agent.read("/x")).value() == data


def test_many_long_answers_do_not_block_the_channel() -> None:
    page = b"ID 0 " + b"00" * 4096 + b"\n"
    on = Agent(Guest(Channel(always(page), portion=4096)))
    answers = on.batch([agent.read("/config", 0, 4096)] * 1000)
    assert {len(answer.value()) for answer in answers} == {4096}


@pytest.mark.parametrize("text", [b"ID 16 \n", b"ID 16\n", b"ID 16 00\n"])
def test_an_error_number_is_an_answer_and_an_exception_only_when_its_value_is_taken(text: bytes) -> None:
    answer = agent_of(always(text)).call(agent.write("/sys/x", b"7"))
    assert answer.errno == errno.EBUSY
    with pytest.raises(GuestErrno, match=r"^writing b'7' to /sys/x: EBUSY \(Device or resource busy\)$") as caught:
        answer.value()
    assert caught.value.errno == errno.EBUSY


def test_an_error_number_that_nobody_knows_is_told_as_it_is() -> None:
    assert errno_name(errno.ENOENT) == "ENOENT"
    assert errno_name(4095) == "errno 4095"
    with pytest.raises(GuestErrno, match=r"^listing /x: errno 4095 \("):
        agent_of(always(b"ID 4095\n")).call(agent.names("/x")).value()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\n",
        b"ID\n",
        b"ID 0 0\n",
        b"ID 0 zz\n",
        b"ID 0 \xc3\xbc\n",
        b"ID EBUSY \n",
        b"ID -1 \n",
        b"ID 4096 \n",
        b"ID 99999999999999999999 \n",
        b"ID 1.0 \n",
        b"ID " + b"9" * 5000 + b" \n",
        b"2 0 00\n",
        b"0 0 00\n",
        b"\x1b[31mID 0 00\n",
        b"-sh: iov-agent: not found\n",
        b"\xff\xff\n",
    ],
)
def test_nonsense_is_quoted_and_blamed_on_the_guest_and_the_next_call_starts_anew(nonsense: bytes) -> None:
    on = agent_of(always(nonsense), right)
    with pytest.raises(GuestLost, match=r"^the agent in the guest answers nonsense: b") as caught:
        on.call(agent.read("/x"))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert on.call(agent.read("/y")).value() == b"/y"


def test_the_answers_behind_nonsense_are_not_taken_for_those_of_the_next_call() -> None:
    on = agent_of(always(b"nonsense\nID 0 00\n"), right)
    with pytest.raises(GuestLost):
        on.batch([agent.read("/x"), agent.read("/x")])
    assert on.call(agent.read("/y")).value() == b"/y"


def test_what_a_closed_agent_said_last_is_not_taken_for_an_answer_of_the_next_one() -> None:
    first = Channel(always(b"ID 0 00\nID 0 "))
    on = Agent(Guest(first, Channel(right)))
    on.call(agent.read("/x"))
    first.close()
    assert on.call(agent.read("/y")).value() == b"/y"


def test_an_answer_without_end_is_given_up() -> None:
    on = agent_of(always(b"ID 0 " + b"0" * (5 * 1024 * 1024)), right)
    with pytest.raises(GuestLost, match="answers without end"):
        on.call(agent.read("/x"))
    assert on.call(agent.read("/y")).value() == b"/y"


def test_an_agent_that_ends_is_told_and_another_is_started() -> None:
    first = Channel(always(b"ID 0 00\n" + ENDED))
    on = Agent(Guest(first, Channel(right)))
    with pytest.raises(GuestLost, match="its agent ended"):
        on.batch([agent.read("/x"), agent.read("/x")])
    assert first.closed
    assert on.call(agent.read("/y")).value() == b"/y"


def test_no_answer_in_time_says_what_was_asked_and_the_next_call_starts_anew() -> None:
    silent = Channel(always(b""))
    on = Agent(Guest(silent, Channel(right)))
    with pytest.raises(GuestTimeout, match=r"^guest: reading /x: nothing within 0\.01 s$"):
        on.call(agent.read("/x"), timeout=0.01)
    assert silent.closed
    assert on.call(agent.read("/y")).value() == b"/y"


class Drip(Channel):
    """An agent that always says, or takes, one more byte before any single wait is over."""

    turns = 0

    def turn(self) -> int:
        self.turns += 1
        assert self.turns < 500_000, "the deadline does not count"
        return 1

    def recv(self, size: int) -> bytes:
        return b"0" * min(size, self.turn())


class SlowDrip(Drip):
    def send(self, data: bytes) -> int:
        return min(0, len(data), self.turn())


@pytest.mark.parametrize("kind", [Drip, SlowDrip])
def test_an_agent_that_drips_does_not_outlast_the_deadline(kind: type[Drip]) -> None:
    with pytest.raises(GuestTimeout):
        Agent(Guest(kind(right))).call(agent.read("/x"), timeout=0.05)


def raising(error: BaseException) -> Speaker:
    def speak(_: str) -> bytes:
        raise error

    return speak


@pytest.mark.parametrize("error", [OSError("Socket is closed"), EOFError(), paramiko.SSHException("cut")])
def test_a_broken_connection_is_told_with_the_reason_for_which_the_session_was_cut(error: Exception) -> None:
    guest = Guest(Channel(raising(error)), Channel(raising(error)))
    on = Agent(guest)
    with pytest.raises(GuestLost, match=f"^the SSH connection to the guest broke: {error}"):
        on.call(agent.read("/x"))
    guest.abort("Kernel panic - not syncing: x")
    with pytest.raises(GuestLost, match=r"^Kernel panic - not syncing: x$"):
        on.call(agent.read("/x"))


def test_a_call_that_is_interrupted_does_not_leave_its_answer_to_the_next_one() -> None:
    on = agent_of(raising(KeyboardInterrupt()), right)
    with pytest.raises(KeyboardInterrupt):
        on.call(agent.read("/x"))
    assert on.call(agent.read("/y")).value() == b"/y"


def failed(number: int) -> GuestErrno:
    with pytest.raises(GuestErrno) as caught:
        Answer(agent.read("/x"), number, b"").value()
    return caught.value


def test_the_error_number_that_a_test_states_passes() -> None:
    with raises_errno(errno.EBUSY):
        raise failed(errno.EBUSY)


def test_another_error_number_than_stated_names_both() -> None:
    with pytest.raises(WrongErrno, match=r"^expected EBUSY, but: reading /x: EINVAL \("), raises_errno(errno.EBUSY):
        raise failed(errno.EINVAL)


def test_success_where_an_error_is_stated_fails() -> None:
    with pytest.raises(WrongErrno, match=r"^expected EBUSY, but it succeeded$"), raises_errno(errno.EBUSY):
        pass


def test_any_other_exception_passes_through_a_stated_error() -> None:
    with pytest.raises(GuestTimeout), raises_errno(errno.EBUSY):
        raise GuestTimeout("x")


class Slow(Channel):
    """Says who it is, and answers all else when it is let."""

    held = True

    def recv_ready(self) -> bool:
        return not self.held


def process_and_answer(line: str) -> bytes:
    number, call, *_ = line.split(" ")
    return f"{number} 0 {b'42'.hex()}\n".encode() if call == "syscall" else right(line)


def test_a_call_may_go_on_while_something_else_is_done() -> None:
    channel = Slow(process_and_answer)
    process = Process(Guest(channel))
    pending = process.start(agent.read("/a"))
    assert process.pid == 42
    assert channel.requests[1:] == ["2 read 2f61 0 65536"]
    assert not pending.is_done
    channel.held = False
    assert pending.is_done
    assert pending.wait().value() == b"/a"
    assert channel.closed
    assert pending.is_done
    assert pending.wait().value() == b"/a"


def silent(line: str) -> bytes:
    return process_and_answer(line) if " syscall " in line else b""


def test_a_call_that_does_not_return_is_waited_for_no_longer_than_asked() -> None:
    channel = Slow(silent)
    pending = Process(Guest(channel)).start(agent.read("/a"))
    with pytest.raises(GuestTimeout, match=r"guest: reading /a: nothing within 0.2 s"):
        pending.wait(0.2)
    assert channel.closed
    with pytest.raises(GuestLost):
        pending.wait(0.2)


def test_a_call_whose_connection_ended_is_lost() -> None:
    pending = Process(Guest(Channel(lambda line: silent(line) or ENDED))).start(agent.read("/a"))
    with pytest.raises(GuestLost, match="its agent ended"):
        pending.wait()
