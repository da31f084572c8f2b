# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a machine has come, as its console, QMP and process tell it, in whatever order."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.errors import Stage
from harness.machine.health import INIT_MARK, LOST_MARK, READY_MARK, Health
from harness.qemu.process import Exit
from harness.qemu.qmp import Event

PANIC = "[    9.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
PANIC_TEXT = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
PANIC_END = f"[    9.2] ---[ end {PANIC_TEXT} ]---"
PANICKED = Event("GUEST_PANICKED", 1.0, {"action": "pause"})
RESET = Event("SHUTDOWN", 1.0, {"guest": True, "reason": "guest-reset"})
KILLED = Exit(-9, "")


class Watched(Health):
    """Health that keeps what it told of the machine's loss."""

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(self.told.append)

    def after(self, *lines: str) -> Watched:
        self.started()
        for line in lines:
            self.on_line(line)
        return self


def soon() -> Deadline:
    return Deadline(20, "the guest")


def test_the_console_tells_one_stage_after_the_other() -> None:
    health = Watched()
    stages = [health.stage]
    health.started()
    stages.append(health.stage)
    for line in ("", "[    0.0] Linux version", INIT_MARK, "loading", READY_MARK, "more"):
        health.on_line(line)
        stages.append(health.stage)
    assert stages == ["qemu", "firmware", "kernel", "kernel", "init", "init", "ssh", "ssh"]
    assert health.ready
    assert (health.loss, health.told) == (None, [])


def test_a_console_that_is_quicker_than_qmp_loses_no_stage() -> None:
    health = Watched()
    for line in ("Linux", INIT_MARK, READY_MARK):
        health.on_line(line)
    health.started()
    assert (health.stage, health.ready) == (Stage.SSH, True)


@pytest.mark.parametrize("before", ["[    8.908693] ", "[    8.908693][    T1] ", "half a line[   11.295973] "])
def test_a_mark_is_found_behind_printks_prefix_wherever_the_kernel_began_its_line(before: str) -> None:
    assert Watched().after("Linux", before + INIT_MARK, before + READY_MARK).ready
    assert Watched().after("Linux", before + INIT_MARK, f"{before}{LOST_MARK}no NIC").loss == "no NIC"


@pytest.mark.parametrize(
    "lines",
    [
        (READY_MARK,),
        ("Linux", READY_MARK),
        ("Linux", f"says {INIT_MARK}", READY_MARK),
        ("Linux", INIT_MARK, f"echo {READY_MARK}"),
        ("Linux", INIT_MARK, f"[    8.908693] echo {READY_MARK}"),
        ("Linux", INIT_MARK, INIT_MARK),
    ],
)
def test_a_guest_is_ready_only_when_its_init_says_so_after_it_began(lines: tuple[str, ...]) -> None:
    assert not Watched().after(*lines).ready


def test_a_clone_is_ready_once_restored_and_is_plugged_into_once_connected() -> None:
    health = Watched()
    health.restored()
    assert (health.stage, health.ready) == (Stage.SSH, True)
    health.wait(Deadline(0, "x"))
    health.connected()
    assert (health.stage, health.ready, health.told) == (Stage.PLUG, True, [])


@pytest.mark.parametrize("line", ["Linux", INIT_MARK, READY_MARK, f"{LOST_MARK}x", f"[    9.1] {LOST_MARK}x"])
def test_no_word_of_init_takes_a_clone_back(line: str) -> None:
    health = Watched()
    health.restored()
    health.on_line(line)
    health.started()
    assert (health.stage, health.ready, health.loss) == (Stage.SSH, True, None)
    health.connected()
    health.on_line(line)
    health.restored()
    assert (health.stage, health.ready, health.loss) == (Stage.PLUG, True, None)


@pytest.mark.parametrize("reached", ["restored", "connected"])
def test_a_clone_can_panic_as_any_machine(reached: str) -> None:
    health = Watched()
    getattr(health, reached)()
    health.on_line(PANIC)
    health.on_event(PANICKED)
    assert health.told == [PANIC_TEXT]


def test_a_second_start_of_init_does_not_take_readiness_back() -> None:
    health = Watched().after("Linux", INIT_MARK, READY_MARK, "Linux version", INIT_MARK)
    assert (health.stage, health.ready) == (Stage.SSH, True)


def test_an_init_that_gives_up_says_why() -> None:
    health = Watched().after("Linux", INIT_MARK, f"{LOST_MARK}no NIC")
    assert (health.loss, health.told, health.stage) == ("no NIC", ["no NIC"], Stage.INIT)


def test_words_of_a_lost_init_count_from_init_alone() -> None:
    assert Watched().after("Linux", f"{LOST_MARK}x").loss is None
    assert Watched().after("Linux", INIT_MARK, READY_MARK, f"{LOST_MARK}x").loss is None


@pytest.mark.parametrize("end", [PANICKED, RESET, KILLED, PANIC_END])
def test_a_panic_is_the_reason_however_the_machine_then_ends(end: Event | Exit | str) -> None:
    health = Watched().after("Linux", PANIC)
    assert health.loss is None
    match end:
        case Event():
            health.on_event(end)
        case Exit():
            health.on_exit(end)
        case str():
            health.on_line(end)
    assert health.told == [PANIC_TEXT]
    assert health.loss == PANIC_TEXT


@pytest.mark.parametrize("tell", [lambda one: one.on_event(PANICKED), lambda one: one.on_line(PANIC_END)])
def test_a_panic_without_its_text_is_still_a_panic(tell: Callable[[Health], None]) -> None:
    health = Watched()
    tell(health)
    assert health.told == ["the guest's kernel panicked"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [({"reason": "guest-reset"}, "guest-reset"), ({"guest": True}, "no reason given"), ({}, "no reason given")],
)
def test_a_guest_that_goes_down_is_lost(data: dict[str, object], reason: str) -> None:
    health = Watched()
    health.on_event(Event("SHUTDOWN", 1.0, data))
    assert health.told == [f"the guest went down ({reason})"]


def test_any_other_event_changes_nothing() -> None:
    health = Watched()
    for name in ("RESUME", "STOP", "DEVICE_DELETED", "GUEST_CRASHLOADED", "guest_panicked"):
        health.on_event(Event(name, 1.0, {}))
    assert (health.loss, health.stage) == (None, Stage.QEMU)


def test_the_end_of_qemu_is_told_in_its_own_words() -> None:
    health = Watched()
    health.on_exit(Exit(1, "qemu: no such device\n"))
    assert health.told == ["QEMU ended, exit code 1; it said: qemu: no such device"]
    assert health.exit == Exit(1, "qemu: no such device\n")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_loss_is_told_once_with_its_first_reason_but_every_end_is_noted(order: tuple[int, ...]) -> None:
    health = Watched()
    ends: list[Callable[[], None]] = [
        lambda: health.on_event(PANICKED),
        lambda: health.on_event(RESET),
        lambda: health.on_exit(KILLED),
    ]
    for number in order:
        ends[number]()
    assert health.told == [health.loss]
    first = ("the guest's kernel panicked", "the guest went down (guest-reset)", str(KILLED))[order[0]]
    assert health.loss == first
    assert health.exit is KILLED


def test_a_loss_that_several_threads_find_is_told_once() -> None:
    for _ in range(50):
        health = Watched()
        barrier = threading.Barrier(4)

        def find(health: Watched = health, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            health.on_event(RESET)

        threads = [threading.Thread(target=find) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(health.told) == 1


def test_whoever_is_told_of_a_loss_may_ask_for_it() -> None:
    asked: list[str | None] = []
    health = Health(lambda _: asked.append(health.loss))
    teller = threading.Thread(target=health.on_event, args=(RESET,))
    teller.start()
    teller.join(20)
    assert asked == ["the guest went down (guest-reset)"]


@pytest.mark.parametrize("end", ["ready", "loss"])
def test_waiting_ends_when_the_guest_is_ready_or_lost(end: str) -> None:
    health = Watched().after("Linux", INIT_MARK)
    action = {"ready": lambda: health.on_line(READY_MARK), "loss": lambda: health.on_event(RESET)}[end]
    other = threading.Thread(target=action)
    start = time.monotonic()
    other.start()
    health.wait(soon())
    assert time.monotonic() - start < 10
    assert (health.ready, health.loss is not None) == (end == "ready", end == "loss")
    other.join()


def test_a_guest_that_gets_nowhere_is_given_up_in_time() -> None:
    with pytest.raises(DeadlineExpired, match=r"^the guest: nothing within 0\.01 s$"):
        Watched().after("Linux", INIT_MARK).wait(Deadline(0.01, "the guest"))


def test_the_end_of_qemu_can_be_waited_for() -> None:
    health = Watched()
    assert health.wait_exit(Deadline(0.01, "x")) is None
    health.on_event(RESET)
    assert health.wait_exit(Deadline(0.01, "x")) is None
    other = threading.Thread(target=health.on_exit, args=(KILLED,))
    other.start()
    assert health.wait_exit(soon()) is KILLED
    other.join()


MISTIMED = "[    0.15] APIC calibration not consistent with PM-Timer: 3ms instead of 100ms"


def test_a_machine_is_lost_with_its_timer() -> None:
    health = Watched().after("Linux", MISTIMED)
    (told,) = health.told
    assert told.startswith(
        "its kernel timed its local APIC timer over 3 ms instead of 100, while the host let QEMU wait"
    )
    assert (health.loss, health.mistimed) == (told, told)


def test_a_panic_before_it_or_the_end_of_qemu_is_the_loss_all_the_same() -> None:
    assert Watched().after("Linux", PANIC, MISTIMED).loss == PANIC_TEXT
    health = Watched().after("Linux")
    health.on_exit(KILLED)
    health.on_line(MISTIMED)
    assert health.loss == str(KILLED)


def test_a_guest_that_is_up_can_print_what_it_likes() -> None:
    health = Watched().after("Linux", INIT_MARK, MISTIMED, READY_MARK, MISTIMED)
    assert (health.told, health.ready, health.mistimed) == ([], True, "")
