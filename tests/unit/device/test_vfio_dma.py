# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory that a client maps, and how the device reaches it: through files, or by messages."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from toy_device import BAR, SCRATCH, Toy, write, write_config
from vfio_client import (
    CONFIG,
    ERROR,
    READ,
    REPLY,
    UNMAP_ALL,
    WRITE,
    Client,
    Lent,
    Serving,
    descriptors,
    file_of_memory,
    message,
    version,
)

from harness.device.device import DmaError
from harness.device.log import Kind
from harness.device.siov import COMPLETION, DESCRIPTOR, DOORBELLS, SiovDevice
from harness.device.vfio_user import session, wire
from harness.device.vfio_user.memory import Memory
from harness.device.vfio_user.server import Server
from harness.device.vfio_user.wire import Command

PAGE = 4096
SOON = 20.0


@pytest.fixture
def ram() -> Iterator[int]:
    """Make a file as guest RAM is: each page holds its own number."""
    with file_of_memory() as fd:
        os.pwrite(fd, b"".join(bytes([page]) * PAGE for page in range(16)), 0)
        yield fd


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Give threads in which the device does DMA while the test answers as the client."""
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture
def by_message(client: Client) -> Client:
    """Map 64 KiB from 0x10000 on, of which the server gets no file."""
    client.memory, client.base = bytearray(0x10000), 0x10000
    assert client.map(0x10000, 0x10000) == 0
    return client


def test_memory_with_a_file_is_read_and_written_in_the_file(client: Client, toy: Toy, ram: int) -> None:
    assert client.map(0x100000, 0x4000, fds=[ram], offset=0x2000) == 0
    assert toy.dma_read(0x100000 + PAGE - 1, 2) == b"\x02\x03"
    toy.dma_write(0x100010, b"hello")
    assert os.pread(ram, 7, 0x200F) == b"\x02hello\x02"[:7]
    assert client.asked == []


def test_a_server_that_takes_no_files_does_all_dma_by_message(
    serving: Serving, toy: Toy, ram: int, pool: ThreadPoolExecutor
) -> None:
    with Client(serving(toy, memory_files=False).path) as client, Lent() as lent:
        client.memory = bytearray(b"by message" * 1000)
        assert client.map(0, PAGE, fds=[ram], offset=PAGE) == 0
        assert client.map(PAGE, PAGE, fds=[lent.fd]) == 0
        assert lent.is_closed()
        reading = pool.submit(toy.dma_read, 0, 10)
        client.serve(1)
        assert reading.result(SOON) == b"by message"


def test_memory_without_a_file_is_asked_for(by_message: Client, toy: Toy, pool: ThreadPoolExecutor) -> None:
    assert by_message.memory is not None
    by_message.memory[0x20:0x24] = b"abcd"
    reading = pool.submit(toy.dma_read, 0x10020, 4)
    by_message.serve(1)
    assert reading.result(SOON) == b"abcd"
    writing = pool.submit(toy.dma_write, 0x1FFFE, b"yz")
    by_message.serve(1)
    writing.result(SOON)
    assert by_message.memory[-2:] == b"yz"
    assert [(one.command, one.flags, one.body[:16]) for one in by_message.asked] == [
        (Command.DMA_READ, 0, struct.pack("<QQ", 0x10020, 4)), (Command.DMA_WRITE, 0, struct.pack("<QQ", 0x1FFFE, 2)),
    ]  # fmt: skip


def test_dma_may_go_over_several_ranges_of_either_kind(
    by_message: Client, toy: Toy, ram: int, pool: ThreadPoolExecutor
) -> None:
    assert by_message.memory is not None
    assert by_message.map(0x20000, PAGE, fds=[ram]) == 0
    assert by_message.map(0x21000, PAGE, fds=[ram], offset=0x5000) == 0
    writing = pool.submit(toy.dma_write, 0x1FFFE, b"\xaa" * (PAGE + 4))
    by_message.serve(1)
    writing.result(SOON)
    assert by_message.memory[-3:] == b"\0\xaa\xaa"
    assert os.pread(ram, PAGE + 1, 0) == b"\xaa" * PAGE + b"\x01"
    assert os.pread(ram, 3, 0x5000) == b"\xaa\xaa\x05"
    reading = pool.submit(toy.dma_read, 0x1FFFD, PAGE + 6)
    by_message.serve(1)
    assert reading.result(SOON) == b"\0" + b"\xaa" * (PAGE + 4) + b"\x05"


@pytest.mark.parametrize(
    ("address", "count"),
    [(0x0FFFF, 1), (0x0FFFF, 2), (0x20000, 1), (0x1FFFF, 2), (0, 4), ((1 << 64) - 1, 1), ((1 << 64) - 1, 2)],
)
def test_dma_outside_of_what_is_mapped_fails_and_writes_nothing(
    client: Client, toy: Toy, ram: int, address: int, count: int
) -> None:
    assert client.map(0x10000, 0x10000, fds=[ram]) == 0
    with pytest.raises(DmaError, match="nothing is mapped at"):
        toy.dma_write(address, b"\xff" * count)
    with pytest.raises(DmaError, match="nothing is mapped at"):
        toy.dma_read(address, count)
    assert os.pread(ram, 1, 0) == b"\0"
    assert os.pread(ram, 1, 0xFFFF) == b"\x0f"


def test_dma_of_no_bytes_asks_nobody(client: Client, toy: Toy) -> None:
    assert toy.dma_read(0, 0) == b""
    toy.dma_write(0, b"")
    assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"


@pytest.mark.parametrize(
    ("flags", "may_read", "may_write"), [(0, False, False), (READ, True, False), (WRITE, False, True)]
)
def test_dma_does_only_what_a_range_is_mapped_for(
    client: Client, toy: Toy, ram: int, flags: int, may_read: bool, may_write: bool
) -> None:
    assert client.map(0, PAGE, fds=[ram], flags=flags) == 0
    if may_read:
        assert toy.dma_read(0, 1) == b"\0"
    else:
        with pytest.raises(DmaError, match="memory at 0x0 is mapped without leave to read"):
            toy.dma_read(0, 1)
    if may_write:
        toy.dma_write(0, b"x")
    else:
        with pytest.raises(DmaError, match="memory at 0x0 is mapped without leave to write"):
            toy.dma_write(0, b"x")
    assert os.pread(ram, 1, 0) == (b"x" if may_write else b"\0")


@pytest.mark.parametrize("address", [0x1000, 0x1FFF, 0x0, 0x2000, 0x17FF])
def test_a_range_over_one_that_is_mapped_is_refused(client: Client, toy: Toy, ram: int, address: int) -> None:
    assert client.map(0x1000, PAGE, fds=[ram], offset=0x3000) == 0
    assert client.map(0x2000, PAGE, fds=[ram], offset=0x4000) == 0
    before = descriptors()
    assert client.map(address, 0x1001, fds=[ram]) == errno.EEXIST
    assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"
    assert descriptors() == before
    assert toy.dma_read(0x1FFF, 2) == b"\x03\x04"


def test_ranges_may_touch_and_fill_all_addresses(client: Client) -> None:
    assert [client.map(*place) for place in ((0x2000, PAGE), (0x1000, PAGE), (0x3000, PAGE), (0, PAGE))] == [0] * 4
    assert client.map((1 << 64) - PAGE, PAGE) == 0
    assert client.map(0x4000, (1 << 64) - PAGE - 0x4000) == 0
    assert client.map(0x4000, 1) == errno.EEXIST


@pytest.mark.parametrize(
    ("address", "size", "flags", "offset"),
    [
        (0, 0, 3, 0), ((1 << 64) - PAGE, PAGE + 1, 3, 0), (1, (1 << 64) - 1, 3, 0), (0, PAGE, 4, 0),
        (0, PAGE, 0x80000003, 0), (0, PAGE, 3, (1 << 63) - PAGE + 1), (0, PAGE, 3, (1 << 64) - 1),
    ],
)  # fmt: skip
def test_a_range_that_cannot_be_is_refused(
    client: Client, ram: int, address: int, size: int, flags: int, offset: int
) -> None:
    assert client.map(address, size, flags=flags, offset=offset, fds=[ram]) == errno.EINVAL
    assert client.map(0, PAGE, fds=[ram]) == 0


def test_a_range_has_one_file_at_most(client: Client) -> None:
    with Lent() as first, Lent() as second:
        assert client.map(0, PAGE, fds=[first.fd, second.fd]) == errno.EINVAL
        assert first.is_closed()
        assert second.is_closed()
    assert client.map(0, PAGE) == 0


def test_what_is_no_file_of_memory_is_refused(client: Client, tmp_path: Path) -> None:
    """A read of a pipe, an event or a terminal may wait for ever, and hold up the whole device."""
    for path in ("/dev/zero", tmp_path):
        fd = os.open(path, os.O_RDONLY)
        assert client.map(0, PAGE, fds=[fd]) == errno.EINVAL
        os.close(fd)
    with Lent() as pipe:
        assert client.map(0, PAGE, fds=[pipe.fd]) == errno.EINVAL
        assert pipe.is_closed()
    event = os.eventfd(0)
    assert client.map(0, PAGE, fds=[event]) == errno.EINVAL
    os.close(event)


def test_a_file_may_be_as_long_as_a_file_can_be(client: Client, toy: Toy, ram: int) -> None:
    assert client.map(0, PAGE, fds=[ram], offset=(1 << 63) - PAGE) == 0
    with pytest.raises(DmaError, match="the memory file at 0x0"):
        toy.dma_read(PAGE - 1, 1)


def test_a_range_that_is_unmapped_under_dma_is_not_reached_any_more(ram: int) -> None:
    """Its descriptor is closed, and may be that of another file."""
    memory = Memory()
    memory.map(0, PAGE, READ | WRITE, os.dup(ram), PAGE)
    ((piece, address, count),) = memory.pieces(0, 4, write=True)
    assert memory.read_file(piece, address, count) == b"\1\1\1\1"
    memory.unmap(0, PAGE)
    with pytest.raises(DmaError, match="memory at 0x0 is mapped no more"):
        memory.read_file(piece, address, count)
    with pytest.raises(DmaError, match="memory at 0x0 is mapped no more"):
        memory.write_file(piece, address, b"1234")


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_PATH])
def test_a_file_that_was_not_opened_for_what_is_done_is_an_error_of_dma(
    client: Client, toy: Toy, tmp_path: Path, flags: int
) -> None:
    (tmp_path / "ram").write_bytes(bytes(PAGE))
    fd = os.open(tmp_path / "ram", flags)
    assert client.map(0, PAGE, fds=[fd]) == 0
    os.close(fd)
    if flags != os.O_RDONLY:
        with pytest.raises(DmaError, match="the memory file at 0x0: Bad file descriptor"):
            toy.dma_read(0, 1)
    if flags != os.O_WRONLY:
        with pytest.raises(DmaError, match="the memory file at 0x0: Bad file descriptor"):
            toy.dma_write(0, b"x")


def test_a_file_that_is_shorter_than_its_range_is_neither_read_nor_grown(client: Client, toy: Toy, ram: int) -> None:
    assert client.map(0, 0x20000, fds=[ram]) == 0
    os.ftruncate(ram, PAGE)
    assert toy.dma_read(PAGE - 1, 1) == b"\0"
    for address in (PAGE - 1, PAGE, 0x1FFFE):
        with pytest.raises(DmaError, match=f"the memory file ends before {address + 2:#x}"):
            toy.dma_read(address, 2)
        with pytest.raises(DmaError, match=f"the memory file ends before {address + 2:#x}"):
            toy.dma_write(address, b"xy")
    assert os.fstat(ram).st_size == PAGE
    assert os.pread(ram, 1, PAGE - 1) == b"\0"
    toy.dma_write(PAGE - 2, b"yz")
    assert os.pread(ram, PAGE, 0) == bytes(PAGE - 2) + b"yz"


def test_unmapping_lets_go_of_the_range_and_of_its_file(client: Client, toy: Toy) -> None:
    fd = os.memfd_create("guest RAM")
    path = str(Path(f"/proc/self/fd/{fd}").readlink())
    os.ftruncate(fd, PAGE)
    assert client.map(0x1000, PAGE, fds=[fd]) == 0
    os.close(fd)
    assert toy.dma_read(0x1000, 1) == b"\0"
    assert client.unmap(0x1000, PAGE) == 0
    with pytest.raises(DmaError, match="nothing is mapped"):
        toy.dma_read(0x1000, 1)
    assert not [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink() and path in str(one.readlink())]


def test_unmapping_what_was_never_mapped_changes_nothing(client: Client, toy: Toy, ram: int) -> None:
    """QEMU does so with an emulated IOMMU."""
    assert client.map(0x1000, PAGE, fds=[ram]) == 0
    for address, size in ((0x2000, PAGE), (0, PAGE), (0x1000, PAGE - 1), (0x1001, PAGE), (0, 0), (0x1800, 8)):
        assert client.unmap(address, size) == 0
    assert toy.dma_read(0x1000, 1) == b"\0"


def test_unmapping_takes_every_range_that_lies_within(client: Client, toy: Toy, ram: int) -> None:
    for page in (0, 1, 2, 4, 6):
        assert client.map(page * PAGE, PAGE, fds=[ram], offset=page * PAGE) == 0
    assert client.unmap(PAGE, 4 * PAGE) == 0
    for page, mapped in ((0, True), (1, False), (2, False), (4, False), (6, True)):
        if mapped:
            assert toy.dma_read(page * PAGE, 1) == bytes([page])
        else:
            with pytest.raises(DmaError):
                toy.dma_read(page * PAGE, 1)
    assert client.map(PAGE, 5 * PAGE, fds=[ram]) == 0


@pytest.mark.parametrize(("address", "size"), [(0, 0), (0x5000, 1), (0, (1 << 64) - 1)])
def test_all_ranges_are_unmapped_at_once(client: Client, toy: Toy, ram: int, address: int, size: int) -> None:
    assert client.map(0, PAGE, fds=[ram]) == 0
    assert client.map((1 << 64) - PAGE, PAGE, fds=[ram]) == 0
    assert client.unmap(address, size, flags=UNMAP_ALL) == 0
    for place in (0, (1 << 64) - PAGE):
        with pytest.raises(DmaError):
            toy.dma_read(place, 1)


def test_there_is_an_end_to_the_ranges_of_a_client(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_DMA_MAPS", 3)
    assert [client.map(page * PAGE, PAGE) for page in range(4)] == [0, 0, 0, errno.ENOSPC]
    assert client.unmap(0, PAGE) == 0
    assert client.map(9 * PAGE, PAGE) == 0


def test_a_client_answers_dma_while_it_waits_for_an_answer_itself(by_message: Client, toy: Toy) -> None:
    """As QEMU does: a vCPU waits for its access, while the device wants memory from the same process."""
    read: Future[bytes] = Future()
    toy.later(lambda: read.set_result(toy.dma_read(0x10000, 4)))
    asked = by_message.request()
    assert by_message.read(BAR, SCRATCH, 4) == bytes(4)
    assert by_message.ask(Command.DEVICE_RESET).error == 0
    by_message.answer(asked)
    assert read.result(SOON) == bytes(4)


def test_a_copy_that_a_doorbell_started_is_done_while_the_client_goes_on(serving: Serving) -> None:
    device = SiovDevice()
    with Client(serving(device).path) as client:
        client.memory = bytearray(0x4000)
        client.memory[0x1000 : 0x1000 + DESCRIPTOR.size] = DESCRIPTOR.pack(0x2000, 0x3000, 0x3800, 8, 0, 5)
        client.memory[0x2000:0x2008] = b"contents"
        assert client.map(0, 0x4000) == 0
        client.write(CONFIG, 4, b"\x06\0")
        client.write(0, 0x10, b"\1\0\0\0")
        client.write_unanswered(DOORBELLS, 0, struct.pack("<I", 0x1000 >> 6))
        while len(client.asked) < 4:
            assert client.read(CONFIG, 0, 2) == b"\x36\x1b"
        assert client.memory[0x3000:0x3008] == b"contents"
        assert COMPLETION.unpack_from(client.memory, 0x3800) == (5, 0, 8)


def test_an_access_that_is_delayed_does_not_hold_up_dma(client: Client, toy: Toy, ram: int) -> None:
    assert client.map(0, PAGE, fds=[ram], offset=PAGE) == 0
    began = threading.Event()
    toy.bars[BAR].on_read("scratch", lambda _: began.set())
    with toy.faults.delay(60):
        client.send(Command.REGION_READ, struct.pack("<QII", 0, BAR, 4))
        assert began.wait(SOON)
        assert toy.dma_read(0, 2) == b"\1\1"


def test_several_threads_do_dma_at_once(by_message: Client, toy: Toy, pool: ThreadPoolExecutor) -> None:
    assert by_message.memory is not None
    by_message.memory[:4] = b"abcd"
    readings = [pool.submit(toy.dma_read, 0x10000 + place, 1) for place in range(4)]
    asked = [by_message.request() for _ in range(4)]
    assert len({one.id for one in asked}) == 4
    for one in reversed(asked):
        by_message.answer(one)
    assert [reading.result(SOON) for reading in readings] == [b"a", b"b", b"c", b"d"]


def test_long_dma_is_cut_at_what_the_client_takes(server: Server, toy: Toy, pool: ThreadPoolExecutor) -> None:
    with Client(server.path, version=version(b'{"capabilities": {"max_data_xfer_size": 100}}\0')) as client:
        client.memory = bytearray(os.urandom(250))
        assert client.map(0, 250) == 0
        reading = pool.submit(toy.dma_read, 0, 250)
        client.serve(3)
        assert reading.result(SOON) == client.memory
        writing = pool.submit(toy.dma_write, 10, b"\x77" * 200)
        client.serve(2)
        writing.result(SOON)
        assert client.memory[10:210] == b"\x77" * 200
        assert [struct.unpack_from("<QQ", one.body) for one in client.asked] == [
            (0, 100), (100, 100), (200, 50), (10, 100), (110, 100),
        ]  # fmt: skip


def test_long_dma_is_cut_at_what_qemu_can_send(by_message: Client, toy: Toy, pool: ThreadPoolExecutor) -> None:
    assert by_message.map(0x20000, 0x10000) == 0
    by_message.memory = bytearray(0x30000)
    reading = pool.submit(toy.dma_read, 0x20000, 0x10000)
    by_message.serve(4)
    assert len(reading.result(SOON)) == 0x10000
    assert {struct.unpack_from("<QQ", one.body)[1] for one in by_message.asked} == {0x4000}


def test_dma_that_the_client_refuses_is_an_error_of_dma(by_message: Client, toy: Toy, pool: ThreadPoolExecutor) -> None:
    by_message.memory = None
    reading = pool.submit(toy.dma_read, 0x10000, 4)
    by_message.serve(1)
    with pytest.raises(DmaError, match="the client refuses: errno 14"):
        reading.result(SOON)


@pytest.mark.parametrize("body", [b"", bytes(15), bytes(16), bytes(19)])
def test_an_answer_that_is_too_short_is_an_error_of_dma(
    by_message: Client, toy: Toy, pool: ThreadPoolExecutor, body: bytes
) -> None:
    reading = pool.submit(toy.dma_read, 0x10000, 4)
    asked = by_message.request()
    by_message.say(message(asked.command, body, flags=REPLY, id_=asked.id))
    with pytest.raises(DmaError, match=f"answered DMA_READ with {len(body)} bytes, where 20 are needed"):
        reading.result(SOON)


def test_an_answer_that_is_too_long_is_cut(by_message: Client, toy: Toy, pool: ThreadPoolExecutor) -> None:
    reading = pool.submit(toy.dma_read, 0x10000, 4)
    asked = by_message.request()
    by_message.say(message(asked.command, bytes(16) + b"abcdef", flags=REPLY, id_=asked.id))
    assert reading.result(SOON) == b"abcd"


def test_a_client_that_does_not_answer_in_time_is_an_error_and_its_late_answer_none(
    by_message: Client, toy: Toy, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_DMA_TIMEOUT", 0.02)
    reading = pool.submit(toy.dma_read, 0x10000, 4)
    asked = by_message.request()
    with pytest.raises(DmaError, match=r"the client did not answer DMA_READ within 0.02 s"):
        reading.result(SOON)
    by_message.answer(asked)
    assert by_message.read(CONFIG, 0, 2) == b"\xf4\x1a"
    by_message.say(message(asked.command, flags=REPLY, id_=asked.id))
    assert by_message.is_ended(), "a second answer to the same request is one that nobody asked for"


def test_dma_ends_with_the_connection(by_message: Client, toy: Toy, pool: ThreadPoolExecutor) -> None:
    readings = [pool.submit(toy.dma_read, 0x10000, 4) for _ in range(3)]
    for _ in readings:
        by_message.request()
    by_message.close()
    for reading in readings:
        with pytest.raises(DmaError, match="the client is gone"):
            reading.result(SOON)
    toy.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED)
    with pytest.raises(DmaError, match="no QEMU is connected"):
        toy.dma_read(0x10000, 4)


def test_dma_of_an_old_connection_does_not_reach_a_new_one(server: Server, toy: Toy, ram: int) -> None:
    with Client(server.path) as old:
        assert old.map(0, PAGE, fds=[ram]) == 0
        host = toy._host
        assert host is not None
    with Client(server.path) as new:
        assert new.map(PAGE, PAGE, fds=[ram]) == 0
        for reached, address in ((host, 0), (host, PAGE), (toy, 0)):
            with pytest.raises(DmaError):
                reached.dma_read(address, 1)
        assert toy.dma_read(PAGE, 1) == b"\0"


def test_without_bus_mastering_the_client_is_asked_nothing(by_message: Client, toy: Toy) -> None:
    write_config(toy, 4, 0)
    with pytest.raises(DmaError, match="bus mastering"):
        toy.dma_read(0x10000, 4)
    assert by_message.read(CONFIG, 0, 2) == b"\xf4\x1a"


@pytest.mark.parametrize("flags", [REPLY, REPLY | ERROR])
def test_an_answer_that_nobody_asked_for_ends_the_connection(client: Client, server: Server, flags: int) -> None:
    client.say(message(Command.DMA_READ, bytes(20), flags=flags, id_=0))
    assert client.is_ended()
    with Client(server.path) as other:
        assert other.read(CONFIG, 0, 2) == b"\xf4\x1a"


def test_descriptors_that_come_with_an_answer_are_closed(
    by_message: Client, toy: Toy, pool: ThreadPoolExecutor
) -> None:
    with Lent() as lent:
        reading = pool.submit(toy.dma_read, 0x10000, 1)
        asked = by_message.request()
        by_message.say(message(asked.command, bytes(17), flags=REPLY, id_=asked.id), [lent.fd])
        assert reading.result(SOON) == b"\0"
        assert lent.is_closed()


def test_unmapping_while_files_are_read_and_written_harms_nothing(
    client: Client, toy: Toy, ram: int, pool: ThreadPoolExecutor
) -> None:
    """A descriptor that is closed, and its number used anew, under a thread that reads would give other bytes."""
    over = threading.Event()
    seen: set[bytes] = set()

    def reading() -> None:
        while not over.is_set():
            try:
                seen.add(toy.dma_read(0, 2))
                toy.dma_write(0, b"\1\1")
            except DmaError:
                continue

    readers = [pool.submit(reading) for _ in range(2)]
    for _ in range(200):
        assert client.map(0, PAGE, fds=[ram], offset=PAGE) == 0
        assert client.unmap(0, PAGE) == 0
    over.set()
    for reader in readers:
        reader.result(SOON)
    assert seen <= {b"\1\1"}
    assert os.pread(ram, 2 * PAGE, 0) == bytes(PAGE) + b"\1" * PAGE


def test_the_device_itself_may_write_its_registers_meanwhile(by_message: Client, toy: Toy) -> None:
    toy.later(lambda: write(toy, SCRATCH, int.from_bytes(toy.dma_read(0x10000, 4), "little")))
    by_message.memory = bytearray(b"\x11\x22\x33\x44")
    by_message.serve(1)
    toy.log.wait(lambda entry: entry.kind is Kind.WRITE and entry.value == 0x44332211)
    assert by_message.read(BAR, SCRATCH, 4) == b"\x11\x22\x33\x44"
