# SPDX-License-Identifier: GPL-2.0-or-later
"""What each command of a vfio-user client does, and what it is refused for."""

from __future__ import annotations

import errno
import struct
import threading

import pytest
from toy_device import BAR, COMMAND, COUNTER, EXPRESS, FLR, MSIX_BAR, SCRATCH, Toy
from vfio_client import CONFIG, NO_REPLY, Client, Lent, Serving

from harness.device.capabilities import express_endpoint
from harness.device.config_space import Bar, Identity
from harness.device.device import Device
from harness.device.log import Kind
from harness.device.vfio_user.wire import MAX_TRANSFER, Command

REGION = "<QII"


def test_commands_have_the_numbers_of_the_protocol() -> None:
    assert {one.name: int(one) for one in Command} == {
        "VERSION": 1, "DMA_MAP": 2, "DMA_UNMAP": 3, "DEVICE_GET_INFO": 4, "DEVICE_GET_REGION_INFO": 5,
        "DEVICE_GET_REGION_IO_FDS": 6, "DEVICE_GET_IRQ_INFO": 7, "DEVICE_SET_IRQS": 8, "REGION_READ": 9,
        "REGION_WRITE": 10, "DMA_READ": 11, "DMA_WRITE": 12, "DEVICE_RESET": 13, "REGION_WRITE_MULTI": 15,
    }  # fmt: skip


def test_the_device_is_a_pci_device_that_can_be_reset(client: Client) -> None:
    said = client.ask(Command.DEVICE_GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
    assert struct.unpack("<IIII", said.body) == (16, 3, 9, 5)


def test_regions_are_told_with_their_sizes(client: Client) -> None:
    sizes = {}
    for index in range(9):
        said = client.ask(Command.DEVICE_GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        argsz, flags, told, cap_offset, size, offset = struct.unpack("<IIIIQQ", said.body)
        assert (argsz, told, cap_offset, offset) == (32, index, 0, 0)
        assert flags == (3 if size else 0)
        sizes[index] = size
    assert sizes == {0: 4096, 1: 0, 2: 4096, 3: 0, 4: 0, 5: 0, 6: 0, 7: 4096, 8: 0}


def test_msix_is_the_only_kind_of_interrupts_that_has_any(client: Client) -> None:
    told = []
    for index in range(3):
        said = client.ask(Command.DEVICE_GET_IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0))
        told.append(struct.unpack("<IIII", said.body))
    assert told == [(16, 0, 0, 0), (16, 0, 1, 0), (16, 9, 2, 4)]


@pytest.mark.parametrize("index", [3, 4, 5, 0xFFFFFFFF])
def test_of_other_kinds_of_interrupts_nothing_is_told(client: Client, index: int) -> None:
    """QEMU asks for kind 3, errors, and takes it only if there is exactly one."""
    assert client.ask(Command.DEVICE_GET_IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0)).error == errno.EINVAL


@pytest.mark.parametrize("index", [9, 0xFFFFFFFF])
def test_a_region_that_is_none_is_refused(client: Client, index: int) -> None:
    body = struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0)
    assert client.ask(Command.DEVICE_GET_REGION_INFO, body).error == errno.EINVAL


SIZED = {
    Command.DMA_MAP: struct.pack("<IIQQQ", 32, 3, 0, 0, 4096),
    Command.DMA_UNMAP: struct.pack("<IIQQ", 24, 0, 0, 4096),
    Command.DEVICE_GET_INFO: struct.pack("<IIII", 16, 0, 0, 0),
    Command.DEVICE_GET_REGION_INFO: struct.pack("<IIIIQQ", 32, 0, 0, 0, 0, 0),
    Command.DEVICE_GET_IRQ_INFO: struct.pack("<IIII", 16, 0, 2, 0),
    Command.DEVICE_SET_IRQS: struct.pack("<IIIII", 20, 0x21, 2, 0, 0),
}


@pytest.mark.parametrize("command", SIZED)
def test_argsz_must_have_room_for_the_answer(client: Client, command: Command) -> None:
    body = SIZED[command]
    for argsz, error in ((0, errno.EINVAL), (len(body) - 1, errno.EINVAL), (len(body), 0)):
        assert client.ask(command, struct.pack("<I", argsz) + body[4:]).error == error, argsz


@pytest.mark.parametrize("command", SIZED)
def test_more_room_than_is_needed_and_more_bytes_change_nothing(client: Client, command: Command) -> None:
    body = SIZED[command]
    said = client.ask(command, struct.pack("<I", 0xFFFFFFFF) + body[4:] + b"more")
    assert said.error == 0
    assert len(said.body) <= len(body)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        *((command, len(body)) for command, body in SIZED.items()),
        (Command.REGION_READ, 16),
        (Command.REGION_WRITE, 16),
    ],
)
def test_a_message_that_is_too_short_is_refused(client: Client, toy: Toy, command: Command, needed: int) -> None:
    for size in (0, 1, needed - 1):
        assert client.ask(command, (b"\xff" * 4 + bytes(needed))[:size]).error == errno.EINVAL
    assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"
    assert toy.broken is None


@pytest.mark.parametrize(
    "command",
    [
        0,
        Command.DEVICE_GET_REGION_IO_FDS,
        Command.DMA_READ,
        Command.DMA_WRITE,
        14,
        Command.REGION_WRITE_MULTI,
        16,
        0xFFFF,
    ],
)
def test_a_command_that_is_not_served_is_refused_and_the_next_is_done(client: Client, command: int) -> None:
    assert client.ask(command, bytes(32)).error == errno.ENOTSUP
    assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"


def test_regions_are_read_and_written(client: Client, toy: Toy) -> None:
    client.write(BAR, SCRATCH, b"\x78\x56\x34\x12")
    assert toy.bars[BAR]["scratch"] == 0x12345678
    assert client.read(BAR, SCRATCH + 1, 2) == b"\x56\x34"
    client.write(CONFIG, COMMAND, b"\x06\x00")
    assert client.read(CONFIG, COMMAND, 2) == b"\x06\x00"


def test_a_region_is_read_whole_to_its_last_byte(client: Client) -> None:
    assert client.read(CONFIG, 0, 4096)[:2] == b"\xf4\x1a"
    assert client.read(MSIX_BAR, 4095, 1) == b"\0"


@pytest.mark.parametrize(
    ("region", "offset", "count"),
    [
        (CONFIG, 0, 0), (CONFIG, 0, 4097), (CONFIG, 4095, 2), (CONFIG, 4096, 1), (CONFIG, (1 << 64) - 1, 1),
        (BAR, 1 << 40, 4), (1, 0, 1), (6, 0, 4), (8, 0, 1), (9, 0, 1), (0xFFFFFFFF, 0, 4), (BAR, 0, 0xFFFFFFFF),
    ],
)  # fmt: skip
def test_an_access_outside_of_a_region_is_refused(
    client: Client, toy: Toy, region: int, offset: int, count: int
) -> None:
    mark = toy.log.mark()
    place = struct.pack(REGION, offset, region, count)
    assert client.ask(Command.REGION_READ, place).error == errno.EINVAL
    assert client.ask(Command.REGION_WRITE, place + bytes(min(count, 8192))).error == errno.EINVAL
    assert toy.log.entries(since=mark) == []


@pytest.mark.parametrize("length", [0, 3, 5, 100])
def test_a_write_with_other_bytes_than_it_says_is_refused(client: Client, toy: Toy, length: int) -> None:
    assert (
        client.ask(Command.REGION_WRITE, struct.pack(REGION, SCRATCH, BAR, 4) + b"\xff" * length).error == errno.EINVAL
    )
    assert toy.bars[BAR]["scratch"] == 0


def test_a_region_of_megabytes_is_read_and_written_in_the_largest_transfers(serving: Serving) -> None:
    device = Device(Identity(1, 1), [express_endpoint()], {0: Bar(4 * MAX_TRANSFER)})
    with Client(serving(device).path) as client:
        assert client.read(0, MAX_TRANSFER, MAX_TRANSFER) == bytes(MAX_TRANSFER)
        client.write(0, 0, b"\xff" * MAX_TRANSFER)
        body = struct.pack(REGION, 0, 0, MAX_TRANSFER + 1)
        assert client.ask(Command.REGION_READ, body).error == errno.EINVAL


def test_a_reset_resets_the_device(client: Client, toy: Toy) -> None:
    client.write(BAR, SCRATCH, b"1234")
    assert client.ask(Command.DEVICE_RESET)[3:] == (0, b"")
    assert client.read(BAR, SCRATCH, 4) == bytes(4)
    assert toy.resets == [Kind.RESET]


def test_a_function_level_reset_is_one_too(client: Client, toy: Toy) -> None:
    client.write(CONFIG, EXPRESS + 8, struct.pack("<H", FLR))
    assert toy.resets == [Kind.FLR]


def test_writes_that_want_no_answer_get_none(client: Client, toy: Toy) -> None:
    for number in range(100):
        client.write_unanswered(BAR, SCRATCH, struct.pack("<I", number))
    client.write_unanswered(BAR, 4096, b"not there")
    client.write_unanswered(CONFIG, 0, b"not written")
    assert client.read(BAR, SCRATCH, 4) == struct.pack("<I", 99)
    assert len(toy.log.writes(BAR)) == 100


@pytest.mark.parametrize("command", [*SIZED, Command.REGION_READ, Command.DEVICE_RESET, 999])
def test_nothing_that_wants_no_answer_gets_one(client: Client, command: int) -> None:
    client.send(command, SIZED.get(Command(command), bytes(16)) if command != 999 else b"", flags=NO_REPLY)
    assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"


def test_commands_may_be_sent_before_the_answers_to_others(client: Client) -> None:
    ids = [client.send(Command.REGION_READ, struct.pack(REGION, 0, CONFIG, count)) for count in range(1, 50)]
    for count, number in enumerate(ids, 1):
        said = client.receive()
        assert said is not None
        assert (said.id, len(said.body)) == (number, 16 + count)


def test_an_answer_carries_the_id_of_its_command_also_where_others_had_the_same(client: Client) -> None:
    for number in (0, 0xFFFF, 7, 7):
        client._id = number - 1
        assert client.ask(Command.DEVICE_RESET).id == number


def test_a_message_in_single_bytes_is_one_message(client: Client) -> None:
    body = struct.pack(REGION, 0, CONFIG, 2)
    for byte in struct.pack("<HHIII", 77, Command.REGION_READ, 16 + len(body), 0, 0) + body:
        client.say(bytes([byte]))
    said = client.receive()
    assert said is not None
    assert (said.id, said.body[16:]) == (77, b"\xf4\x1a")


def test_a_model_that_raises_is_broken_and_the_client_hears_of_an_io_error(client: Client, toy: Toy) -> None:
    mistake = ZeroDivisionError("in the model")

    def hook(*_: int) -> None:
        raise mistake

    toy.bars[BAR].on_write("counter", hook)
    toy.bars[BAR].on_read("counter", hook)
    place = struct.pack(REGION, COUNTER, BAR, 4)
    assert client.ask(Command.REGION_WRITE, place + b"abcd").error == errno.EIO
    assert client.ask(Command.REGION_READ, place).error == errno.EIO
    assert toy.broken is mistake
    assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"


@pytest.mark.parametrize(
    "error", [OSError(errno.EPIPE, "a file of the model's"), MemoryError(), RecursionError(), KeyError(5)]
)
def test_no_mistake_of_a_model_ends_the_connection(client: Client, toy: Toy, error: Exception) -> None:
    def hook(*_: int) -> None:
        raise error

    toy.bars[BAR].on_write("counter", hook)
    client.write_unanswered(BAR, COUNTER, b"1234")
    assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"
    assert toy.broken is error


def test_an_access_that_a_fault_leaves_unanswered_gets_no_answer(client: Client, toy: Toy) -> None:
    toy.faults.no_reply(BAR, times=2)
    client.send(Command.REGION_READ, struct.pack(REGION, 0, BAR, 4))
    client.send(Command.REGION_WRITE, struct.pack(REGION, 0, BAR, 1) + b"x")
    assert client.read(BAR, SCRATCH, 4) == bytes(4)


def test_an_access_that_is_delayed_is_answered_when_the_fault_ends(client: Client, toy: Toy) -> None:
    began = threading.Event()
    toy.bars[BAR].on_read("scratch", lambda _: began.set())
    fault = toy.faults.delay(60)
    client.send(Command.REGION_READ, struct.pack(REGION, 0, BAR, 4))
    assert began.wait(20)
    fault.end()
    said = client.receive()
    assert said is not None
    assert said.body[16:] == bytes(4)


@pytest.mark.parametrize(
    ("command", "body"),
    [
        *((one, body) for one, body in SIZED.items() if one not in (Command.DMA_MAP, Command.DEVICE_SET_IRQS)),
        (Command.REGION_READ, struct.pack(REGION, 0, CONFIG, 2)),
        (Command.REGION_WRITE, struct.pack(REGION, 0, CONFIG, 0)),
        (Command.DEVICE_RESET, b""),
        (Command.VERSION, b"\0\0\0\0"),
        (999, b""),
    ],
)  # fmt: skip
def test_descriptors_that_come_with_a_message_that_takes_none_are_closed(
    client: Client, command: int, body: bytes
) -> None:
    with Lent() as first, Lent() as second:
        client.ask(command, body, fds=[first.fd, second.fd, first.fd])
        assert first.is_closed()
        assert second.is_closed()
        assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"
