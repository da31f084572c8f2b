# SPDX-License-Identifier: GPL-2.0-or-later
"""What every device does by itself: function-level reset, MSI-X, DMA, jobs of its own, and telling what went wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from toy_device import (
    BAR,
    COMMAND,
    EXPRESS,
    FLR,
    MSIX,
    MSIX_BAR,
    MSIX_ENABLE,
    MSIX_MASK_ALL,
    SCRATCH,
    STATUS,
    Board,
    Toy,
    enable,
    read,
    write,
    write_config,
)

from harness.device.capabilities import vendor_specific
from harness.device.config_space import COMMAND_MASTER, Bar, Identity
from harness.device.device import CONFIG, Device, DmaError
from harness.device.log import Kind
from harness.device.registers import Bank, LayoutError, Register

CONTROL = EXPRESS + 8
"""Device Control."""


def plugged(toy: Toy) -> Board:
    board = Board()
    toy.attach(board)
    enable(toy)
    return board


def test_regions_are_bars_and_configuration_space() -> None:
    toy = Toy()
    assert [toy.size(region) for region in range(9)] == [4096, 0, 4096, 0, 0, 0, 0, 4096, 0]
    with pytest.raises(KeyError):
        toy.read(1, 0, 4)
    with pytest.raises(KeyError):
        toy.write(6, 0, b"1234")


def test_registers_that_do_not_fit_into_their_bar_are_refused_with_its_number() -> None:
    with pytest.raises(LayoutError, match="BAR 3: register r at 0x10 ends at 0x14, behind the end at 0x10"):
        Device(Identity(1, 1), [], {3: Bar(16, (Register("r", 16, 4),))})


def test_a_reset_resets_all_regions_and_is_noted() -> None:
    toy = Toy()
    enable(toy)
    write(toy, SCRATCH, 5)
    write(toy, STATUS, 3)
    toy.reset()
    assert (read(toy, SCRATCH), read(toy, STATUS)) == (0, 0xF)
    assert (toy.config["command"], toy.config["msix_control"]) == (0, 3)
    assert toy.resets == [Kind.RESET]
    assert Kind.RESET in [entry.kind for entry in toy.log]


@pytest.mark.parametrize("data", [b"\x10\xa8", b"\x10\xa8\0\0"])
def test_device_control_initiates_a_function_level_reset(data: bytes) -> None:
    toy = Toy()
    write(toy, SCRATCH, 5)
    write_config(toy, CONTROL, 0x1111)
    toy.write(CONFIG, CONTROL, data)
    assert toy.read(CONFIG, CONTROL, 2) == b"\x10\x28"
    assert read(toy, SCRATCH) == 0
    assert toy.resets == [Kind.FLR]
    assert [entry.kind for entry in toy.log if entry.kind in (Kind.FLR, Kind.RESET)] == [Kind.FLR]


def test_the_upper_byte_of_device_control_alone_initiates_it_too() -> None:
    toy = Toy()
    toy.write(CONFIG, CONTROL + 1, b"\x80")
    assert toy.resets == [Kind.FLR]


def test_device_control_without_its_highest_bit_resets_nothing() -> None:
    toy = Toy()
    write_config(toy, CONTROL, 0x7FFF)
    assert toy.config["device_control"] == 0x7FFF
    assert toy.resets == []


def test_a_device_without_function_level_reset_has_none_and_the_bit_reads_as_0() -> None:
    toy = Toy(flr=False)
    write_config(toy, CONTROL, FLR | 0x2810)
    assert toy.resets == []
    assert toy.config["device_control"] == 0x2810


def test_a_device_needs_neither_express_nor_msix() -> None:
    device = Device(Identity(1, 1), [vendor_specific(b"")])
    assert device.vectors == 0
    device.reset()
    device.deliver_pending()
    with pytest.raises(ValueError, match="MSI-X vector 0: the device has 0"):
        device.interrupt(0)


@pytest.mark.parametrize("vectors", [1, 64, 128])
def test_a_device_has_the_vectors_that_it_declares(vectors: int) -> None:
    assert Toy(vectors=vectors).vectors == vectors


def test_an_interrupt_is_raised_at_once_where_it_can_be() -> None:
    toy = Toy()
    board = plugged(toy)
    toy.interrupt(2)
    assert board.raised == [2]
    assert toy.pending() == 0


@pytest.mark.parametrize("control", [0, MSIX_MASK_ALL, MSIX_ENABLE | MSIX_MASK_ALL])
def test_an_interrupt_is_pending_while_it_is_masked_or_not_enabled_and_raised_once_after_that(control: int) -> None:
    toy = Toy(vectors=12)
    board = Board()
    toy.attach(board)
    enable(toy, control=control)
    for vector in (3, 9, 9):
        toy.interrupt(vector)
    assert board.raised == []
    assert toy.pending() == 1 << 3 | 1 << 9
    assert toy.read(MSIX_BAR, 0x800, 8) == b"\x08\x02" + bytes(6)
    write_config(toy, MSIX + 2, MSIX_ENABLE)
    assert board.raised == [3, 9]
    assert toy.pending() == 0
    write_config(toy, MSIX + 2, MSIX_ENABLE)
    assert board.raised == [3, 9]


def test_an_interrupt_that_the_host_does_not_await_is_pending_until_it_does() -> None:
    toy = Toy()
    board = plugged(toy)
    board.deaf = True
    toy.interrupt(1)
    toy.deliver_pending()
    assert toy.pending() == 2
    board.deaf = False
    toy.deliver_pending()
    assert (board.raised, toy.pending()) == ([1], 0)


def test_an_interrupt_of_a_device_that_is_not_plugged_in_is_pending() -> None:
    toy = Toy()
    enable(toy)
    toy.interrupt(0)
    assert toy.pending() == 1


def test_the_guest_cannot_write_pending_bits() -> None:
    toy = Toy()
    toy.interrupt(1)
    write(toy, 0x800, 0, MSIX_BAR)
    assert toy.pending() == 2


def test_a_reset_leaves_no_interrupt_pending() -> None:
    toy = Toy()
    toy.interrupt(1)
    toy.reset()
    assert toy.pending() == 0


@pytest.mark.parametrize("vector", [-1, 4])
def test_an_interrupt_of_no_vector_is_the_models_mistake(vector: int) -> None:
    toy = Toy()
    with pytest.raises(ValueError, match=f"MSI-X vector {vector}: the device has 4"):
        toy.interrupt(vector)
    assert len(toy.log) == 0


def test_dma_reaches_the_hosts_memory() -> None:
    toy = Toy()
    board = plugged(toy)
    toy.dma_write(0x100, b"abcd")
    assert board.memory[0x100:0x104] == b"abcd"
    assert toy.dma_read(0x101, 2) == b"bc"


def test_dma_needs_a_host_and_bus_mastering() -> None:
    toy = Toy()
    enable(toy)
    with pytest.raises(DmaError, match="no QEMU is connected"):
        toy.dma_read(0, 4)
    toy.attach(Board())
    write_config(toy, COMMAND, 0x7FFF & ~COMMAND_MASTER)
    with pytest.raises(DmaError, match="bus mastering is not enabled in Command"):
        toy.dma_write(0, b"1")


def test_dma_that_fails_is_noted_as_such() -> None:
    toy = Toy()
    plugged(toy)
    for dma in (lambda: toy.dma_write(0xFFFF, b"12"), lambda: toy.dma_read(0x10000, 3)):
        with pytest.raises(DmaError, match="no memory at 0x"):
            dma()
    toy.detach()
    with pytest.raises(DmaError):
        toy.dma_read(5, 1)
    assert [entry[1:5] for entry in toy.log if entry.kind.startswith("dma")] == [
        (Kind.DMA_ERROR, -1, 0xFFFF, 2), (Kind.DMA_ERROR, -1, 0x10000, 3), (Kind.DMA_ERROR, -1, 5, 1),
    ]  # fmt: skip


def leaving(toy: Toy, name: str) -> Callable[[str, int], int]:
    """Make a `Bank.get` after which the host is gone, as it may be any time: its end is noted in another thread."""

    def get(wanted: str, index: int = 0) -> int:
        value = Bank.get(toy.config, wanted, index)
        if wanted == name:
            toy.detach()
        return value

    return get


def test_a_host_that_leaves_while_dma_begins_is_an_error_of_dma(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy()
    board = plugged(toy)
    monkeypatch.setattr(toy.config, "get", leaving(toy, "command"))
    assert toy.dma_read(0, 4) == bytes(4)
    assert not toy.is_connected
    with pytest.raises(DmaError):
        toy.dma_read(0, 4)
    assert board.raised == []


def test_a_host_that_leaves_while_an_interrupt_is_raised_is_no_mistake_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy = Toy()
    plugged(toy)
    monkeypatch.setattr(toy.config, "get", leaving(toy, "msix_control"))
    toy.interrupt(0)
    toy.interrupt(1)
    assert not toy.is_connected


def test_jobs_are_done_one_after_another_in_a_thread_of_the_device() -> None:
    toy = Toy()
    done: list[tuple[int, str]] = []
    for number in range(50):
        toy.later(lambda number=number: done.append((number, threading.current_thread().name)))  # type: ignore[misc]
    toy.close()
    assert done == [(number, "Toy jobs") for number in range(50)]


def test_a_job_runs_while_others_hold_no_lock() -> None:
    toy = Toy()
    done = threading.Event()

    def hook(*_: int) -> None:
        toy.later(done.set)

    toy.bars[BAR].on_write("counter", hook)
    write(toy, 8, 1)
    assert done.wait(20)
    toy.close()


def test_a_job_that_raises_breaks_the_device_and_the_next_is_done() -> None:
    toy = Toy()
    done: list[int] = []
    first, second = RuntimeError("first"), RuntimeError("second")

    def failing(error: Exception) -> Callable[[], None]:
        def job() -> None:
            raise error

        return job

    for job in (failing(DmaError("the guest's matter")), failing(first), failing(second), lambda: done.append(1)):
        toy.later(job)
    toy.close()
    assert toy.broken is first
    assert done == [1]


def test_a_dma_error_in_a_job_does_not_break_the_device() -> None:
    toy = Toy()
    toy.later(lambda: toy.dma_write(0, b"1"))
    toy.close()
    assert toy.broken is None


def test_a_device_can_be_closed_twice_and_used_again() -> None:
    toy = Toy()
    toy.close()
    toy.close()
    done = threading.Event()
    toy.later(done.set)
    assert done.wait(20)
    toy.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "Toy jobs"]


def test_a_host_comes_and_goes() -> None:
    toy = Toy()
    toy.disconnect()
    assert not toy.is_connected
    toy.attach(Board())
    assert toy.is_connected
    toy.detach()
    assert not toy.is_connected
    assert [entry.kind for entry in toy.log] == [Kind.CONNECTED, Kind.DISCONNECTED]


def test_disconnecting_is_left_to_the_host() -> None:
    toy = Toy()
    plugged(toy)
    with pytest.raises(AssertionError, match="nobody asked for this"):
        toy.disconnect()
