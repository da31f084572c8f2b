# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP with a QEMU that is one end of a socket pair, and answers as a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient

from harness.deadline import Deadline, DeadlineExpired
from harness.errors import GuestFailure
from harness.qemu import qmp
from harness.qemu.loop import the_loop
from harness.qemu.qmp import CommandRefused, Event, Monitor, QmpLost

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}
REFUSED = {"error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}}
SILENCE: dict[str, Any] = {}


def soon(what: str = "QMP") -> Deadline:
    return Deadline(20, what)


class Qemu:
    """Greets, and gives to each command the answer that lies ready for it."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any]] = {"qmp_capabilities": {"return": {}}}
        self.asked: list[dict[str, Any]] = []
        self.socket, self.harness = socket.socketpair()
        self.socket.settimeout(20)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def say(self, **message: Any) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, seconds: int = 0, **data: Any) -> None:
        self.say(event=name, timestamp={"seconds": seconds, "microseconds": 250_000}, data=data)

    def die(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()

    def _requests(self) -> Iterator[dict[str, Any]]:
        """Give what comes, object by object: qemu.qmp ends none with a newline."""
        text = ""
        while data := self.socket.recv(65536):
            text += data.decode()
            while text:
                try:
                    request, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break  # the rest is on its way
                text = text[end:].lstrip()
                yield request

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            for request in self._requests():
                self.asked.append(request)
                answer = self.answers.get(request["execute"], REFUSED)
                if answer is not SILENCE:
                    self.say(**answer, **{key: request[key] for key in ("id",) if key in request})


class Watched(Monitor):
    """A monitor that keeps the events it told of, and in which thread."""

    def __init__(self, record: Path) -> None:
        self.told: list[tuple[Event, str]] = []
        super().__init__(the_loop(), record, lambda event: self.told.append((event, threading.current_thread().name)))


@pytest.fixture
def qemu() -> Iterator[Qemu]:
    """Start a QEMU that says nothing yet."""
    made = Qemu()
    yield made
    made.die()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Give the place of the record."""
    return tmp_path / "qmp.jsonl"


@pytest.fixture
def unconnected(record: Path) -> Iterator[Watched]:
    """Make a monitor."""
    made = Watched(record)
    yield made
    made.close()


@pytest.fixture
def monitor(qemu: Qemu, unconnected: Watched) -> Watched:
    """Make a monitor that is connected."""
    qemu.say(**GREETING)
    unconnected.connect(qemu.harness, soon())
    return unconnected


def test_a_command_gives_what_qemu_returns(qemu: Qemu, monitor: Watched) -> None:
    qemu.answers["query-x"] = {"return": [{"a": 1}]}
    assert monitor.execute("query-x") == [{"a": 1}]


def test_an_underscore_in_an_argument_stands_for_a_dash(qemu: Qemu, monitor: Watched) -> None:
    qemu.answers["human-monitor-command"] = {"return": ""}
    monitor.execute("human-monitor-command", command_line="info usernet")
    assert qemu.asked[-1]["arguments"] == {"command-line": "info usernet"}


def test_a_commands_own_names_stay_as_they_are(qemu: Qemu, monitor: Watched, record: Path) -> None:
    qemu.answers["device_add"] = {"return": {}}
    arguments = {"driver": "nvme", "sriov_max_vfs": 4, "sriov-pf": "x"}
    monitor.command("device_add", arguments)
    assert qemu.asked[-1]["arguments"] == arguments
    assert json.loads(record.read_text().splitlines()[0])["arguments"] == arguments


def test_a_refused_command_says_what_was_refused_and_why_and_the_next_one_works(qemu: Qemu, monitor: Watched) -> None:
    with pytest.raises(CommandRefused, match=r"^QMP device_del: Device 'x' not found$") as caught:
        monitor.execute("device_del", id="x")
    found = caught.value
    assert (found.command, found.error_class, found.desc) == ("device_del", "DeviceNotFound", "Device 'x' not found")
    assert not isinstance(found, GuestFailure)
    qemu.answers["query-x"] = {"return": 1}
    assert monitor.execute("query-x") == 1


def test_everything_is_recorded_with_its_time(qemu: Qemu, monitor: Watched, record: Path) -> None:
    qemu.answers["query-x"] = {"return": 1}
    monitor.execute("query-x", a_b=2)
    with pytest.raises(CommandRefused):
        monitor.execute("no")
    qemu.event("STOP", 5)
    monitor.wait_event("STOP", soon())
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert all(abs(line.pop("time") - time.time()) < 60 for line in lines)
    assert lines == [
        {"execute": "query-x", "arguments": {"a-b": 2}},
        {"return": 1},
        {"execute": "no", "arguments": {}},
        {"error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}},
        {"event": "STOP", "data": {}, "at": 5.25},
    ]


def test_no_answer_is_given_up_in_time_and_a_late_one_is_not_taken_for_another(qemu: Qemu, monitor: Watched) -> None:
    qemu.answers["query-x"] = SILENCE
    with pytest.raises(DeadlineExpired, match=r"^QEMU's answer to query-x: nothing within 0\.1 s$"):
        monitor.execute("query-x", timeout=0.1)
    qemu.say(**{"return": "late"}, id=qemu.asked[-1]["id"])
    qemu.answers["query-y"] = {"return": "in time"}
    assert monitor.execute("query-y") == "in time"


def test_a_qemu_that_ends_during_a_command_is_lost(qemu: Qemu, monitor: Watched) -> None:
    qemu.answers["quit"] = SILENCE
    ending = threading.Timer(0.05, qemu.die)
    ending.start()
    with pytest.raises(QmpLost, match=r"^QMP quit: the connection to QEMU is gone"):
        monitor.execute("quit")
    ending.join()
    with pytest.raises(QmpLost, match=r"^QMP query-x: the connection to QEMU is gone"):
        monitor.execute("query-x")


@pytest.mark.parametrize("words", [b"\xff\n", b"[]\n", b'"x"\n', b"{\n", b'{"error": {"class": "x", "desc": "y"}}\n'])
def test_a_qemu_that_talks_nonsense_is_lost(qemu: Qemu, monitor: Watched, words: bytes) -> None:
    qemu.answers["query-x"] = SILENCE
    talking = threading.Timer(0.05, qemu.socket.sendall, [words])
    talking.start()
    with pytest.raises(QmpLost):
        monitor.execute("query-x")
    talking.join()


def test_a_command_that_is_cancelled_is_lost(monitor: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(QMPClient, "execute", cancelled)
    with pytest.raises(QmpLost, match=r"^QMP query-x: the connection to QEMU is gone"):
        monitor.execute("query-x")


def test_a_command_before_the_connection_is_lost(unconnected: Watched) -> None:
    with pytest.raises(QmpLost):
        unconnected.execute("query-x")


def test_a_qemu_that_does_not_greet_is_given_up_in_time(qemu: Qemu, unconnected: Watched) -> None:
    with pytest.raises(DeadlineExpired, match=r"^QEMU's start: nothing within 0\.1 s$"):
        unconnected.connect(qemu.harness, Deadline(0.1, "QEMU's start"))
    with pytest.raises(QmpLost):
        unconnected.execute("query-x")


@pytest.mark.parametrize("words", [b"SSH-2.0-x\r\n", b"{}\n", b'{"QMP": 1}\n', b""])
def test_a_qemu_that_greets_wrongly_is_lost(qemu: Qemu, unconnected: Watched, words: bytes) -> None:
    qemu.socket.sendall(words)
    if not words:
        qemu.die()
    with pytest.raises(QmpLost, match=r"^QEMU did not greet over QMP"):
        unconnected.connect(qemu.harness, soon())


def test_events_are_told_in_order_with_qemus_own_time_in_the_loops_thread(qemu: Qemu, monitor: Watched) -> None:
    qemu.event("RESUME", 7)
    qemu.event("SHUTDOWN", 8, reason="guest-reset")
    assert monitor.wait_event("SHUTDOWN", soon()) == Event("SHUTDOWN", 8.25, {"reason": "guest-reset"})
    monitor.close()
    assert monitor.told == [(event, "iov-harness-loop") for event in monitor.events]
    assert [event.name for event in monitor.events] == ["RESUME", "SHUTDOWN"]


def test_an_event_without_data_or_time_is_an_event(qemu: Qemu, monitor: Watched) -> None:
    qemu.say(event="STOP")
    assert monitor.wait_event("STOP", soon()) == Event("STOP", 0, {})


def test_an_event_can_be_waited_for_from_a_moment_on(qemu: Qemu, monitor: Watched) -> None:
    qemu.event("STOP", 1)
    monitor.wait_event("STOP", soon())
    since = len(monitor.events)
    with pytest.raises(DeadlineExpired, match=r"^x: nothing within 0\.01 s$"):
        monitor.wait_event("STOP", Deadline(0.01, "x"), since=since)
    later = threading.Timer(0.05, qemu.event, ["STOP", 2])
    later.start()
    assert monitor.wait_event("STOP", soon(), since=since).time == 2.25
    later.join()


@pytest.mark.parametrize("before", [True, False], ids=["before the wait", "during the wait"])
def test_whoever_waits_for_an_event_learns_at_once_why_it_will_not_come(
    qemu: Qemu, monitor: Watched, *, before: bool
) -> None:
    qemu.event("STOP")
    other = threading.Timer(0 if before else 0.1, monitor.abort, ["QEMU ended"])
    other.start()
    if before:
        other.join()
    start = time.monotonic()
    with pytest.raises(QmpLost, match=r"^QEMU ended$"):
        monitor.wait_event("MIGRATION", soon())
    assert time.monotonic() - start < 10
    other.join()


def test_the_first_reason_why_no_event_will_come_is_told_to_all(monitor: Watched) -> None:
    for reason in ("panic", "QEMU ended"):
        monitor.abort(reason)
    for _ in range(2):
        with pytest.raises(QmpLost, match=r"^panic$"):
            monitor.wait_event("STOP", soon())


def test_an_event_that_came_before_the_loss_is_still_given(qemu: Qemu, monitor: Watched) -> None:
    qemu.event("STOP", 1)
    monitor.wait_event("STOP", soon())
    monitor.abort("QEMU ended")
    assert monitor.wait_event("STOP", soon()).time == 1.25


def test_an_event_can_be_waited_for_by_what_it_holds(qemu: Qemu, monitor: Watched) -> None:
    for device in ("a", "b"):
        qemu.event("DEVICE_DELETED", device=device)
    found = monitor.wait_event("DEVICE_DELETED", soon(), matching=lambda event: event.data["device"] == "b")
    assert found.data == {"device": "b"}


def test_an_event_that_has_come_needs_no_time(qemu: Qemu, monitor: Watched) -> None:
    qemu.event("STOP")
    monitor.wait_event("STOP", soon())
    assert monitor.wait_event("STOP", Deadline(0, "x")).name == "STOP"


def test_of_a_flood_of_events_the_first_are_kept_and_all_are_told(
    qemu: Qemu, monitor: Watched, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qmp, "_EVENTS_KEPT", 10)
    for number in range(500):
        qemu.event("RTC_CHANGE", offset=number)
    qemu.answers["query-x"] = {"return": 1}
    monitor.execute("query-x")
    assert [event.data["offset"] for event in monitor.events] == list(range(10))
    assert [event.data["offset"] for event, _ in monitor.told] == list(range(500))
    assert record.read_text().count("RTC_CHANGE") == 10


def test_a_full_disk_is_noted_and_qemu_still_heard(qemu: Qemu, record: Path) -> None:
    record.symlink_to("/dev/full")
    monitor = Watched(record)
    assert monitor.broken is None
    qemu.say(**GREETING)
    monitor.connect(qemu.harness, soon())
    for number in range(3):
        qemu.event("STOP", number)
    qemu.answers["query-x"] = {"return": 1}
    assert monitor.execute("query-x") == 1
    assert monitor.wait_event("STOP", soon(), since=2).time == 2.25
    assert monitor.broken is not None
    assert monitor.broken.errno == errno.ENOSPC
    monitor.close()


def test_a_command_works_while_events_come(qemu: Qemu, monitor: Watched) -> None:
    qemu.answers["query-x"] = {"return": 1}
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            qemu.event("RTC_CHANGE")

    flooding = threading.Thread(target=flood)
    flooding.start()
    assert [monitor.execute("query-x") for _ in range(5)] == [1] * 5
    over.set()
    flooding.join()


def test_a_closed_monitor_can_be_closed_again_and_does_no_more(qemu: Qemu, monitor: Watched) -> None:
    monitor.close()
    monitor.close()
    with pytest.raises(QmpLost):
        monitor.execute("query-x")
    assert [request["execute"] for request in qemu.asked] == ["qmp_capabilities"]


def test_closing_after_qemu_is_gone_is_nothing_special(qemu: Qemu, monitor: Watched) -> None:
    qemu.die()
    monitor.close()


def test_closing_does_not_wait_for_a_qemu_that_does_not_read(qemu: Qemu, monitor: Watched) -> None:
    qemu.answers["query-x"] = SILENCE
    with pytest.raises(DeadlineExpired):
        monitor.execute("query-x", timeout=0.05)
    start = time.monotonic()
    monitor.close()
    assert time.monotonic() - start < 10
