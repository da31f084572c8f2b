# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults: what a device answers while one is in force, how often, and that it ends when it is told to."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from toy_device import BAR, COUNTER, SCRATCH, VENDOR, Toy, read, write

from harness.device.device import CONFIG
from harness.device.faults import Fault, Faults, NoReply
from harness.device.log import Kind

LONG = 60.0
"""Seconds that no test waits."""


def vendor(toy: Toy) -> int:
    return int.from_bytes(toy.read(CONFIG, 0, 2), "little")


def test_a_device_that_is_gone_reads_as_all_ones_and_takes_no_write() -> None:
    toy = Toy()
    write(toy, SCRATCH, 1)
    with toy.faults.all_ones() as fault:
        assert (vendor(toy), read(toy, SCRATCH)) == (0xFFFF, 0xFFFFFFFF)
        write(toy, SCRATCH, 2)
    assert (vendor(toy), read(toy, SCRATCH)) == (VENDOR, 1)
    assert fault.happened == 3


def test_one_region_can_be_gone_alone() -> None:
    toy = Toy()
    with toy.faults.all_ones(BAR):
        assert (vendor(toy), read(toy, SCRATCH)) == (VENDOR, 0xFFFFFFFF)


def test_what_was_answered_is_in_the_log() -> None:
    toy = Toy()
    with toy.faults.all_ones():
        vendor(toy)
    assert [entry.value for entry in toy.log] == [0xFFFF]


def test_a_fault_happens_as_often_as_it_is_told() -> None:
    toy = Toy()
    fault = toy.faults.all_ones(times=2)
    assert [vendor(toy) for _ in range(4)] == [0xFFFF, 0xFFFF, VENDOR, VENDOR]
    assert fault.is_over
    assert fault.happened == 2


def test_a_wrong_value_is_read_once_or_always() -> None:
    toy = Toy()
    toy.faults.wrong_value(CONFIG, 0, 0xDEAD, 2, times=1)
    assert [vendor(toy) for _ in range(3)] == [0xDEAD, VENDOR, VENDOR]
    with toy.faults.wrong_value(CONFIG, 0, 0xBEEF, 2) as fault:
        assert [vendor(toy) for _ in range(3)] == [0xBEEF] * 3
    assert vendor(toy) == VENDOR
    assert fault.happened == 3


def test_a_wrong_value_stands_in_its_own_bytes_only() -> None:
    toy = Toy()
    write(toy, SCRATCH, 0x44332211)
    with toy.faults.wrong_value(BAR, 1, 0xBBAA, 2):
        assert toy.read(BAR, 0, 4) == b"\x11\xaa\xbb\x44"
        assert toy.read(BAR, 2, 1) == b"\xbb"
        assert toy.read(BAR, 0, 2) == b"\x11\xaa"
        assert toy.read(CONFIG, 0, 2) == b"\xf4\x1a"


def test_a_read_beside_a_wrong_value_does_not_use_it_up() -> None:
    toy = Toy()
    fault = toy.faults.wrong_value(BAR, 4, 0xFFFF, 2, times=1)
    toy.read(BAR, 0, 4)
    toy.read(BAR, 6, 2)
    assert fault.happened == 0
    assert toy.read(BAR, 5, 1) == b"\xff"


def test_a_wrong_value_does_not_hinder_writes_nor_count_them() -> None:
    toy = Toy()
    with toy.faults.wrong_value(BAR, SCRATCH, 7, 4) as fault:
        write(toy, SCRATCH, 5)
        assert fault.happened == 0
        assert read(toy, SCRATCH) == 7
    assert read(toy, SCRATCH) == 5


def test_a_hook_sees_the_true_value_behind_a_wrong_one() -> None:
    toy = Toy()
    toy.bars[BAR].on_read("counter", lambda _: toy.bars[BAR]["counter"] + 1)
    with toy.faults.wrong_value(BAR, COUNTER, 0, 4, times=2):
        assert [read(toy, COUNTER) for _ in range(3)] == [0, 0, 3]


def test_no_reply_drops_writes_and_answers_no_reads() -> None:
    toy = Toy()
    toy.faults.no_reply(BAR, times=2)
    with pytest.raises(NoReply):
        write(toy, SCRATCH, 5)
    with pytest.raises(NoReply):
        read(toy, SCRATCH)
    assert read(toy, SCRATCH) == 0
    assert vendor(toy) == VENDOR
    assert [entry.kind for entry in toy.log] == [Kind.WRITE, Kind.READ, Kind.READ, Kind.READ]


def test_a_delay_makes_each_access_wait_for_its_time() -> None:
    toy = Toy()
    begun = time.monotonic()
    with toy.faults.delay(0.05, BAR) as fault:
        write(toy, SCRATCH, 5)
        assert read(toy, SCRATCH) == 5
        vendor(toy)
    assert 0.1 <= time.monotonic() - begun < 20
    assert fault.happened == 2


@pytest.mark.parametrize("how", ["end", "clear", "close"])
def test_an_access_that_is_being_delayed_is_answered_when_the_delay_is_ended(how: str) -> None:
    toy = Toy()
    fault = toy.faults.delay(LONG)
    began = threading.Event()
    toy.bars[BAR].on_read("scratch", lambda _: began.set())
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        answer = pool.submit(read, toy, SCRATCH)
        assert began.wait(20)
        assert not answer.done()
        {"end": fault.end, "clear": toy.faults.clear, "close": toy.close}[how]()
        assert answer.result(20) == 0
    assert time.monotonic() - begun < LONG / 2


def test_a_delayed_device_can_be_looked_at_and_changed_meanwhile() -> None:
    toy = Toy()
    fault = toy.faults.delay(LONG, BAR)
    began = threading.Event()
    toy.bars[BAR].on_read("scratch", lambda _: began.set())
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(read, toy, SCRATCH)
        assert began.wait(20)
        assert pool.submit(vendor, toy).result(20) == VENDOR
        toy.reset()
        fault.end()
        answer.result(20)


def test_several_faults_happen_together() -> None:
    toy = Toy()
    with toy.faults.wrong_value(CONFIG, 0, 0xAA, 1), toy.faults.wrong_value(CONFIG, 1, 0xBB, 1):
        assert vendor(toy) == 0xBBAA
    with toy.faults.all_ones(), toy.faults.wrong_value(CONFIG, 1, 0xBB, 1):
        assert vendor(toy) == 0xBBFF


def test_clear_ends_all_of_them() -> None:
    toy = Toy()
    faults = [toy.faults.all_ones(), toy.faults.wrong_value(CONFIG, 0, 1, 1), toy.faults.no_reply()]
    toy.faults.clear()
    assert all(fault.is_over for fault in faults)
    assert vendor(toy) == VENDOR


def test_a_fault_that_is_over_is_forgotten() -> None:
    faults = Faults()
    for _ in range(1000):
        faults.all_ones(times=1).strike()
    assert len(faults._faults) <= 2


class Hasty(Fault):
    """A fault that, while an access asks whether it is in force, has a test make another one."""

    toy: Toy | None = None

    @property
    def is_over(self) -> bool:
        toy, self.toy = self.toy, None
        if toy is not None:
            toy.faults.all_ones(times=1)
        return super().is_over


def test_a_fault_that_is_made_while_an_access_goes_on_is_not_lost() -> None:
    """A test makes faults in its own thread while the server's thread answers."""
    toy = Toy()
    hasty = Hasty(None, BAR)
    toy.faults._add(hasty)
    hasty.toy = toy
    assert vendor(toy) == VENDOR
    assert vendor(toy) == 0xFFFF
