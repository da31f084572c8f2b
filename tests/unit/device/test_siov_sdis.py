# SPDX-License-Identifier: GPL-2.0-or-later
"""The SIOV device: its capability, its registers, and copies that its SDIs make."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from toy_device import COMMAND, Board, read, write, write_config

from harness import chain
from harness.device.config_space import COMMAND_MASTER, COMMAND_MEMORY
from harness.device.device import CONFIG
from harness.device.log import Kind
from harness.device.registers import LayoutError
from harness.device.siov import (
    COMPLETION,
    DESCRIPTOR,
    DOORBELLS,
    IDENTIFICATION,
    LARGEST_COPY,
    MSIX,
    REGISTERS,
    Error,
    SiovDevice,
)

IDENTITY, TOTAL, ENABLED, SELECT, CONTROL, ROUTING_ID, COMPLETIONS, ERROR = range(0, 0x20, 4)
WORK, SOURCE, DESTINATION, DONE = 0x1000, 0x2000, 0x3000, 0x4000
"""Where the tests have a descriptor, bytes to copy, where to, and the completion."""
TEXT = b"what is copied"


@pytest.fixture
def device() -> Iterator[SiovDevice]:
    """Make a device of four SDIs."""
    made = SiovDevice()
    yield made
    made.close()
    assert made.broken is None


@pytest.fixture
def board(device: SiovDevice) -> Board:
    """Plug the device into a board, and do as its driver's probe."""
    made = Board(1 << 22)
    device.attach(made)
    write_config(device, COMMAND, COMMAND_MEMORY | COMMAND_MASTER)
    device.config["msix_control"] |= 0x8000
    made.memory[SOURCE : SOURCE + len(TEXT)] = TEXT
    return made


def switch(device: SiovDevice, sdi: int, *, on: bool) -> None:
    write(device, SELECT, sdi)
    write(device, CONTROL, int(on))


def selected(device: SiovDevice, sdi: int, register: int) -> int:
    """Select an SDI, and read what a register says of it."""
    write(device, SELECT, sdi)
    return read(device, register)


def prepare(
    board: Board, *, at: int = WORK, source: int = SOURCE, destination: int = DESTINATION, done: int = DONE,
    length: int = len(TEXT), vector: int = 1, tag: int = 0x77,
) -> None:  # fmt: skip
    """Put a descriptor into memory."""
    board.memory[at : at + DESCRIPTOR.size] = DESCRIPTOR.pack(source, destination, done, length, vector, tag)


def ring(device: SiovDevice, sdi: int, address: int = WORK) -> None:
    write(device, 4 * sdi, address >> 6, DOORBELLS)


def completion(board: Board) -> tuple[int, int, int]:
    tag, status, length = COMPLETION.unpack_from(board.memory, DONE)
    return tag, status, length


def flr(device: SiovDevice) -> None:
    at = device.config.find(0x10, extended=False) + 8
    write_config(device, at, 0x8000)


def status(device: SiovDevice) -> int:
    return device.read(CONFIG, device.config.find(0x38) + 0x0B, 1)[0]


def test_it_tells_who_it_is_and_how_many_sdis_it_has(device: SiovDevice) -> None:
    assert read(device, IDENTITY) == IDENTIFICATION
    assert device.read(REGISTERS, 0, 4) == b"SIOV"
    assert (read(device, TOTAL), read(device, ENABLED)) == (4, 0)


def test_its_capability_says_what_was_asked_for() -> None:
    device = SiovDevice(
        total_sdis=0x1234, first_sdi_offset=0x5678, sdi_stride=0x9ABC, siov_status=0x80, siov_capabilities=0xDEF01234
    )
    assert device.read(CONFIG, device.config.find(0x38), 16)[4:] == bytes.fromhex("3412f0de 3412 00 80 7856 bc9a")


@pytest.mark.parametrize(
    ("place", "ids"),
    [("first", [0x38, 3, 0xF, 0x1B]), ("middle", [3, 0x38, 0xF, 0x1B]), ("last", [3, 0xF, 0x1B, 0x38])],
)
def test_the_capability_stands_where_it_is_asked_for(place: str, ids: list[int]) -> None:
    device = SiovDevice(place=place)  # type: ignore[arg-type]
    assert [one.id for one in chain.extended(device.config.peek(0, 4096))] == ids


def test_a_place_that_is_none_is_refused() -> None:
    with pytest.raises(LayoutError, match="place 'nowhere': the capability stands first, middle or last"):
        SiovDevice(place="nowhere")  # type: ignore[arg-type]


def test_other_capabilities_can_stand_beside_it_or_in_its_stead() -> None:
    device = SiovDevice(siov=False, intel_dvsec=True, all_ones_header=True)
    assert [one.id for one in chain.extended(device.config.peek(0, 4096))] == [3, 0xF, 0x1B, 0x23, 0xFFFF]


def test_without_the_capability_sdis_work_all_the_same() -> None:
    device = SiovDevice(siov=False)
    switch(device, 0, on=True)
    device.reset()
    assert device.enabled == frozenset()


def test_an_sdi_is_enabled_and_disabled_by_its_control(device: SiovDevice) -> None:
    switch(device, 2, on=True)
    switch(device, 0, on=True)
    assert (set(device.enabled), read(device, ENABLED), read(device, CONTROL)) == ({0, 2}, 2, 1)
    switch(device, 2, on=False)
    assert (set(device.enabled), read(device, ENABLED), read(device, CONTROL)) == ({0}, 1, 0)
    write(device, SELECT, 0)
    assert read(device, CONTROL) == 1


def test_bit_0_of_siov_status_follows_the_sdis_that_are_enabled(device: SiovDevice) -> None:
    assert status(device) == 0
    switch(device, 1, on=True)
    switch(device, 3, on=True)
    assert (status(device), device.siov_status) == (1, 1)
    switch(device, 1, on=False)
    assert status(device) == 1
    switch(device, 3, on=False)
    assert status(device) == 0


def test_the_other_bits_of_siov_status_stay() -> None:
    device = SiovDevice(siov_status=0xA2)
    switch(device, 0, on=True)
    assert status(device) == 0xA3
    switch(device, 0, on=False)
    assert status(device) == 0xA2
    flr(device)
    assert status(device) == 0xA2


def test_software_cannot_write_siov_status(device: SiovDevice) -> None:
    device.write(CONFIG, device.config.find(0x38), b"\xff" * 16)
    assert status(device) == 0


def test_sdis_that_were_left_enabled_are_so_until_a_function_level_reset() -> None:
    device = SiovDevice(siov_status=1)
    assert status(device) == 1
    switch(device, 0, on=True)
    switch(device, 0, on=False)
    assert status(device) == 1
    device.reset()
    assert status(device) == 1, "QEMU resets the device when it takes it: that is power-on"
    flr(device)
    assert status(device) == 0
    device.reset()
    assert status(device) == 1


@pytest.mark.parametrize("how", [flr, SiovDevice.reset])
def test_a_reset_stops_all_sdis(device: SiovDevice, how: Callable[[SiovDevice], None]) -> None:
    for sdi in range(4):
        switch(device, sdi, on=True)
    how(device)
    assert (set(device.enabled), status(device), read(device, ENABLED), read(device, SELECT)) == (set(), 0, 0, 0)
    assert [selected(device, sdi, CONTROL) for sdi in range(4)] == [0] * 4


def test_an_sdi_that_is_not_there_cannot_be_enabled(device: SiovDevice) -> None:
    switch(device, 4, on=True)
    assert device.enabled == frozenset()
    assert read(device, ERROR) == Error.NO_SUCH_SDI
    assert (read(device, CONTROL), status(device)) == (0, 0)


def test_an_error_is_cleared_by_writing_it(device: SiovDevice) -> None:
    switch(device, 4, on=True)
    ring(device, 0)
    write(device, ERROR, Error.NO_SUCH_SDI)
    assert read(device, ERROR) == Error.NOT_ENABLED


def test_the_routing_id_of_an_sdi_is_first_offset_and_strides() -> None:
    device = SiovDevice(total_sdis=300, first_sdi_offset=8, sdi_stride=3)
    told = [selected(device, sdi, ROUTING_ID) for sdi in (0, 1, 299)]
    assert told == [8, 11, 8 + 299 * 3]


def test_only_the_byte_that_holds_the_control_bit_enables_an_sdi(device: SiovDevice) -> None:
    switch(device, 1, on=True)
    write(device, SELECT, 2)
    device.write(REGISTERS, CONTROL + 2, b"\xff")
    assert device.enabled == {1}


def test_a_doorbell_makes_its_sdi_copy_what_the_descriptor_says(device: SiovDevice, board: Board) -> None:
    prepare(board)
    switch(device, 3, on=True)
    ring(device, 3)
    assert board.interrupted.wait(20)
    assert board.memory[DESTINATION : DESTINATION + len(TEXT)] == TEXT
    assert completion(board) == (0x77, 0, len(TEXT))
    assert board.raised == [1]
    assert (read(device, COMPLETIONS), read(device, ERROR)) == (1, 0)


def test_each_sdi_counts_its_own_copies(device: SiovDevice, board: Board) -> None:
    prepare(board)
    for sdi in (0, 2):
        switch(device, sdi, on=True)
    for sdi in (0, 2, 2, 2):
        ring(device, sdi)
    device.close()
    assert board.raised == [1] * 4
    assert [selected(device, sdi, COMPLETIONS) for sdi in range(4)] == [1, 0, 3, 0]


def test_enabling_an_sdi_that_is_enabled_changes_nothing_and_disabling_it_forgets_its_count(
    device: SiovDevice, board: Board
) -> None:
    prepare(board)
    switch(device, 0, on=True)
    ring(device, 0)
    device.close()
    switch(device, 0, on=True)
    assert read(device, COMPLETIONS) == 1
    switch(device, 0, on=False)
    switch(device, 0, on=True)
    assert read(device, COMPLETIONS) == 0


def test_the_doorbell_of_a_disabled_sdi_does_no_dma(device: SiovDevice, board: Board) -> None:
    prepare(board)
    switch(device, 0, on=True)
    ring(device, 1)
    device.close()
    assert read(device, ERROR) == Error.NOT_ENABLED
    assert not [entry for entry in device.log if entry.kind in (Kind.DMA_READ, Kind.DMA_WRITE, Kind.INTERRUPT)]


def test_what_lies_behind_the_last_doorbell_is_none(device: SiovDevice, board: Board) -> None:
    prepare(board)
    switch(device, 3, on=True)
    ring(device, 4)
    device.close()
    assert read(device, ERROR) == 0
    assert board.raised == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"length": LARGEST_COPY + 1}, Error.TOO_LONG),
        ({"length": 0xFFFFFFFF}, Error.TOO_LONG),
        ({"source": 1 << 40}, Error.DMA),
        ({"destination": (1 << 64) - 4}, Error.DMA),
        ({"vector": 8}, Error.NO_SUCH_VECTOR),
        ({"vector": 0xFFFF}, Error.NO_SUCH_VECTOR),
    ],
)
def test_a_descriptor_that_cannot_be_done_completes_with_its_error(
    device: SiovDevice, board: Board, wrong: dict[str, int], error: Error
) -> None:
    prepare(board, **wrong)
    switch(device, 0, on=True)
    ring(device, 0)
    device.close()
    assert completion(board) == (0x77, error, 0)
    assert read(device, ERROR) == error
    assert board.raised == ([] if error is Error.NO_SUCH_VECTOR else [1])
    assert board.memory[DESTINATION : DESTINATION + len(TEXT)] == bytes(len(TEXT))


@pytest.mark.parametrize("length", [0, LARGEST_COPY])
def test_the_shortest_and_the_longest_copy_are_done(device: SiovDevice, board: Board, length: int) -> None:
    prepare(board, source=0x10000, destination=0x200000, length=length)
    board.memory[0x10000 : 0x10000 + length] = b"\xa5" * length
    switch(device, 0, on=True)
    ring(device, 0)
    device.close()
    assert completion(board) == (0x77, 0, length)
    assert board.memory[0x200000 : 0x200000 + length + 1] == b"\xa5" * length + b"\0"


@pytest.mark.parametrize("address", [1 << 22, 1 << 37])
def test_a_descriptor_that_cannot_be_read_is_an_error_without_a_completion(
    device: SiovDevice, board: Board, address: int
) -> None:
    switch(device, 0, on=True)
    ring(device, 0, address)
    device.close()
    assert read(device, ERROR) == Error.DMA
    assert (read(device, COMPLETIONS), board.raised) == (0, [])


def test_a_completion_that_cannot_be_written_is_an_error_without_an_interrupt(device: SiovDevice, board: Board) -> None:
    prepare(board, done=1 << 40)
    switch(device, 0, on=True)
    ring(device, 0)
    device.close()
    assert read(device, ERROR) == Error.DMA
    assert board.raised == []


def test_without_bus_mastering_nothing_is_copied(device: SiovDevice, board: Board) -> None:
    prepare(board)
    switch(device, 0, on=True)
    write_config(device, COMMAND, COMMAND_MEMORY)
    ring(device, 0)
    device.close()
    assert read(device, ERROR) == Error.DMA
    assert completion(board) == (0, 0, 0)


def test_a_masked_vector_is_pending_when_a_copy_is_over(device: SiovDevice, board: Board) -> None:
    prepare(board, vector=6)
    device.config["msix_control"] |= 0x4000
    switch(device, 0, on=True)
    ring(device, 0)
    device.close()
    assert board.raised == []
    assert device.bars[MSIX].peek(0x1000, 1) == b"\x40"
    write_config(device, device.config.find(0x11, extended=False) + 2, 0x8000)
    assert board.raised == [6]
    assert device.bars[MSIX].peek(0x1000, 1) == b"\0"


def restart(device: SiovDevice) -> None:
    """Disable SDI 0, and enable it anew."""
    switch(device, 0, on=False)
    switch(device, 0, on=True)


def waiting(go: threading.Event) -> None:
    """Do nothing until it is time."""
    assert go.wait(20)


STOPS: dict[str, Callable[[SiovDevice], None]] = {
    "flr": flr, "reset": SiovDevice.reset, "disable": lambda device: switch(device, 0, on=False), "restart": restart,
}  # fmt: skip


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.parametrize("at", [WORK, SOURCE, DESTINATION, DONE])
def test_a_copy_goes_no_further_when_its_sdi_is_stopped(device: SiovDevice, board: Board, at: int, how: str) -> None:
    """It is stopped while it does DMA at one address: of that, the host alone knows whether it was in time."""
    reached, go = threading.Event(), threading.Event()

    def before_dma(address: int) -> None:
        if address == at:
            reached.set()
            waiting(go)

    board.before_dma = before_dma
    prepare(board)
    switch(device, 0, on=True)
    ring(device, 0)
    assert reached.wait(20)
    STOPS[how](device)
    go.set()
    device.close()
    written = [entry.offset for entry in device.log if entry.kind is Kind.DMA_WRITE]
    assert written == [place for place in (DESTINATION, DONE) if place <= at]
    assert board.raised == []
    assert device.bars[MSIX].peek(0x1000, 1) == b"\0", "an interrupt is pending"
    assert (read(device, ERROR), read(device, COMPLETIONS)) == (0, 0)


@pytest.mark.parametrize("how", STOPS)
def test_a_copy_that_waits_behind_another_is_not_begun_when_its_sdi_is_stopped(
    device: SiovDevice, board: Board, how: str
) -> None:
    prepare(board)
    switch(device, 0, on=True)
    go = threading.Event()
    device.later(lambda: waiting(go))
    ring(device, 0)
    STOPS[how](device)
    write_config(device, COMMAND, COMMAND_MEMORY | COMMAND_MASTER)
    go.set()
    device.close()
    assert not [entry for entry in device.log if entry.kind in (Kind.DMA_READ, Kind.DMA_WRITE, Kind.INTERRUPT)]
    assert read(device, ERROR) == 0


def test_stopping_one_sdi_lets_the_others_go_on(device: SiovDevice, board: Board) -> None:
    prepare(board)
    for sdi in (0, 1):
        switch(device, sdi, on=True)
    go = threading.Event()
    device.later(lambda: waiting(go))
    for sdi in (0, 1):
        ring(device, sdi)
    switch(device, 0, on=False)
    go.set()
    device.close()
    assert board.raised == [1]
    assert selected(device, 1, COMPLETIONS) == 1


def test_a_device_of_no_sdis_has_a_doorbell_bar_without_doorbells() -> None:
    device = SiovDevice(total_sdis=0)
    assert device.size(DOORBELLS) == 4096
    ring(device, 0)
    switch(device, 0, on=True)
    assert (read(device, TOTAL), read(device, ERROR), status(device)) == (0, Error.NO_SUCH_SDI, 0)


def test_a_device_of_all_sdis_has_a_doorbell_for_each() -> None:
    device = SiovDevice(total_sdis=0xFFFF, first_sdi_offset=0xFFFF, sdi_stride=0xFFFF)
    board = Board()
    device.attach(board)
    assert device.size(DOORBELLS) == 1 << 18
    write_config(device, COMMAND, COMMAND_MASTER)
    device.config["msix_control"] |= 0x8000
    prepare(board)
    switch(device, 0xFFFE, on=True)
    assert read(device, ROUTING_ID) == 0xFFFF * 0xFFFF
    ring(device, 0xFFFE)
    assert board.interrupted.wait(20)
    switch(device, 0xFFFF, on=True)
    assert (set(device.enabled), read(device, ERROR)) == ({0xFFFE}, Error.NO_SUCH_SDI)
    device.close()


def test_it_can_be_without_vectors() -> None:
    device = SiovDevice(vectors=0)
    assert device.vectors == 0
    assert not device.config.has(0x11, extended=False)


@pytest.mark.parametrize("vectors", [1, 8, 2048])
def test_it_has_as_many_vectors_as_asked_for(vectors: int) -> None:
    device = SiovDevice(vectors=vectors)
    board = Board()
    device.attach(board)
    device.interrupt(vectors - 1)
    device.config["msix_control"] |= 0x8000
    device.config["command"] = 0x0004
    device.deliver_pending()
    assert board.raised == [vectors - 1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"total_sdis": 0x10000}, "65536 SDIs: a function has 0 to 65535"),
        ({"total_sdis": -1}, "-1 SDIs"),
        ({"total_sdis": 1 << 28, "siov": False}, "268435456 SDIs"),
        ({"first_sdi_offset": 0x10000}, "siov_first_sdi_offset: value=0x10000 does not fit"),
        ({"sdi_stride": -1}, "siov_sdi_stride: value=-0x1"),
        ({"siov_status": 0x100}, "siov_status: value=0x100"),
        ({"siov_capabilities": 1 << 32}, "siov_capabilities: value"),
        ({"vectors": -1}, "MSI-X with -1 vectors: it has 0 to 2048"),
        ({"vectors": 2049}, "MSI-X with 2049 vectors"),
        ({"vendor_id": 0x10000}, "vendor_id: value"),
        ({"class_code": 1 << 24}, "class_code: value"),
        ({"serial_number": -1}, "serial_number: value"),
    ],
)
def test_what_does_not_fit_its_field_is_refused_in_one_line(arguments: dict[str, int], why: str) -> None:
    with pytest.raises(LayoutError, match=why) as refused:
        SiovDevice(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
