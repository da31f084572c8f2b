# SPDX-License-Identifier: GPL-2.0-or-later
"""What a vfio-user client may say, rightly and wrongly, drawn at random: for properties and for `make fuzz`."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from vfio_client import CONFIG, file_of_memory, message, version

from harness.device.vfio_user.wire import HEADER, Command

VERSION = message(Command.VERSION, version(b'{"capabilities": {"max_data_xfer_size": 4096}}\0'))
EDGES = (0, 1, 7, 0xFF, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
"""Numbers at which something begins or ends."""


class Spoken(NamedTuple):
    """Bytes to send, and the kinds of descriptors to send with them."""

    data: bytes
    fds: tuple[str, ...] = ()


@contextmanager
def descriptors_of_all_kinds() -> Iterator[Mapping[str, int]]:
    """Open one descriptor of each kind that a client could send."""
    with ExitStack() as stack:

        def kept(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        reader, writer = map(kept, os.pipe())
        one, other = (stack.enter_context(end) for end in socket.socketpair())
        yield {
            "memory": stack.enter_context(file_of_memory()),
            "event": kept(os.eventfd(0)),
            "reader": reader,
            "writer": writer,
            "null": kept(os.open("/dev/null", os.O_RDWR)),
            "path": kept(os.open("/", os.O_PATH)),
            "folder": kept(os.open("/", os.O_RDONLY)),
            "file": kept(os.open(Path(__file__), os.O_RDONLY)),
            "socket": one.fileno(),
            "peer": other.fileno(),
        }


KINDS = ("memory", "event", "reader", "writer", "null", "path", "folder", "file", "socket", "peer")


def _number(random: Random, limit: int) -> int:
    """Draw a number below `limit`: small, anything, or at an edge."""
    return random.choice((random.randrange(min(limit, 16)), random.randrange(limit), random.choice(EDGES) % limit))


def _region(random: Random) -> tuple[int, int, int]:
    """Draw a place to read or write: registers, doorbells, vectors, configuration space, or anywhere."""
    if random.random() < 0.1:
        return _number(random, 1 << 64), _number(random, 1 << 32), _number(random, 1 << 32)
    region, size = random.choice(((0, 0x20), (2, 0x10), (4, 4096), (CONFIG, 4096)))
    return random.randrange(size) & random.choice((~0, ~3)), region, random.choice((1, 2, 4, 4, 8, 64))


def _map(random: Random) -> Spoken:
    flags = random.choice((3, 3, 3, 1, 2, 0, _number(random, 1 << 32)))
    page = random.randrange(16)
    body = struct.pack("<IIQQQ", 32, flags, random.choice((0, page << 12)), page << 12, random.choice((1, 4, 16)) << 12)
    return Spoken(
        message(Command.DMA_MAP, body), random.choice(((), ("memory",), ("memory",), (random.choice(KINDS),)))
    )


def _unmap(random: Random) -> Spoken:
    flags = random.choice((0, 0, 2, _number(random, 1 << 32)))
    start, size = random.randrange(16) << 12, random.randrange(17) << 12
    return Spoken(message(Command.DMA_UNMAP, struct.pack("<IIQQ", 24, flags, start, size)))


def _irqs(random: Random) -> Spoken:
    flags = random.choice((0x24, 0x24, 0x21, 0x09, 0x11, 0x22, 0x0A, 0x12, _number(random, 64)))
    start, count = random.randrange(10), random.randrange(10)
    fds = ("event",) * random.choice((0, count, count)) if flags & 4 else ()
    body = struct.pack("<IIIII", 20 + count, flags, random.choice((2, 2, 2, 0, 5)), start, count)
    return Spoken(message(Command.DEVICE_SET_IRQS, body + random.randbytes(count)), fds)


def _read(random: Random) -> Spoken:
    return Spoken(message(Command.REGION_READ, struct.pack("<QII", *_region(random))))


def _write(random: Random) -> Spoken:
    offset, region, count = _region(random)
    data = random.choice((bytes(count & 0xFF), random.randbytes(count & 0xFF), b"\xff" * (count & 0xFF)))
    flags = random.choice((0, 0x10))
    return Spoken(message(Command.REGION_WRITE, struct.pack("<QII", offset, region, count) + data, flags=flags))


def _word(offset: int, region: int, value: int, *, flags: int = 0) -> Spoken:
    """Write 32 bits."""
    body = struct.pack("<QIII", offset, region, 4, value)
    return Spoken(message(Command.REGION_WRITE, body, flags=flags))


def _work(random: Random) -> Spoken:
    """Draw what a driver of the device does: select, enable or disable an SDI, or, mostly, ring a doorbell."""
    sdi = random.randrange(5)
    if random.random() < 0.02:
        return _word(0x48, CONFIG, 0x8000)  # a function-level reset
    doorbell = 4 * sdi, 2, random.randrange(1024)
    offset, region, value = random.choice(
        ((0x04, CONFIG, 6), (0x7C, CONFIG, random.choice((0x80000000, 0xC0000000))), (0x0C, 0, sdi), (0x10, 0, 1),
         (0x10, 0, random.randrange(2)), *[doorbell] * 9)
    )  # fmt: skip
    return _word(offset, region, value, flags=random.choice((0, 0x10)))


def _info(random: Random) -> Spoken:
    command, layout = random.choice(
        ((Command.DEVICE_GET_INFO, "<IIII"), (Command.DEVICE_GET_REGION_INFO, "<IIIIQQ"),
         (Command.DEVICE_GET_IRQ_INFO, "<IIII"))
    )  # fmt: skip
    fields = [struct.calcsize(layout), 0, random.randrange(11), *[0] * 9]
    return Spoken(message(command, struct.pack(layout, *fields[: len(layout) - 1])))


def _reset(_random: Random) -> Spoken:
    return Spoken(message(Command.DEVICE_RESET))


def _answer(random: Random) -> Spoken:
    command = random.choice((Command.DMA_READ, Command.DMA_WRITE))
    body = random.randbytes(random.choice((0, 16, 56, 24)))
    return Spoken(message(command, body, flags=random.choice((1, 0x21)), id_=random.randrange(4)))


SOUND: Mapping[Callable[[Random], Spoken], int] = {
    _map: 3, _unmap: 1, _irqs: 4, _read: 4, _write: 4, _work: 40, _info: 2, _reset: 1,
}  # fmt: skip
"""What a sound client may say, and how often: mostly what makes the device work, since a reset stops all of that."""


def _sound(random: Random) -> Spoken:
    return random.choices(tuple(SOUND), tuple(SOUND.values()))[0](random)


def _spoiled(random: Random) -> Spoken:
    """Draw a sound message, and change some of its bytes, its length or its descriptors."""
    data, fds = _sound(random)
    spoiled = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        place = random.randrange(len(spoiled))
        # Mostly behind the header: whoever spoils that is not listened to any longer.
        if place < HEADER.size and random.random() < 0.8 and len(spoiled) > HEADER.size:
            place = random.randrange(HEADER.size, len(spoiled))
        width = random.choice((1, 1, 4, 8))
        new = (_number(random, 1 << 8 * width)).to_bytes(width, "little")
        spoiled[place : place + width] = new[: len(spoiled) - place]
    if random.random() < 0.1:
        del spoiled[random.randrange(len(spoiled)) :]
    if random.random() < 0.2:
        fds = tuple(random.choice(KINDS) for _ in range(random.choice((1, 2, 8, 9, 12))))
    return Spoken(bytes(spoiled), fds)


def _wild(random: Random) -> Spoken:
    """Draw a message with a true length and nothing else that is true."""
    body = random.randbytes(random.choice((0, 4, 16, 20, 24, 32, 200)))
    flags = random.choice((0, 0, 0, 0x10, _number(random, 1 << 32)))
    return Spoken(message(random.randrange(20), body, flags=flags, id_=random.randrange(1 << 16)))


def _noise(random: Random) -> Spoken:
    return Spoken(random.randbytes(random.randrange(1, 100)))


def probe(random: Random) -> Iterator[Spoken]:
    """Draw what a driver's probe does, so that doorbells lead to DMA and interrupts: memory with and without a file."""
    for page in range(16):
        body = struct.pack("<IIQQQ", 32, 3, page << 12, page << 12, 1 << 12)
        yield Spoken(message(Command.DMA_MAP, body), random.choice(((), ("memory",))))
    body = struct.pack("<IIIII", 20, 0x24, 2, 0, 8)
    yield Spoken(message(Command.DEVICE_SET_IRQS, body), ("event", "event", "writer", "event") * 2)
    yield from (_word(0x04, CONFIG, 6), _word(0x7C, CONFIG, 0x80000000))
    for sdi in range(4):
        yield from (_word(0x0C, 0, sdi), _word(0x10, 0, 1))


def drawn(random: Random) -> Spoken:
    """Draw a message: half of them sound, for a session that is to have come somewhere before it is spoiled."""
    return random.choices((_sound, _spoiled, _wild, _answer, _noise), (60, 35, 4, 1, 1))[0](random)
