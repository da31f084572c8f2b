# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages of the vfio-user protocol as bytes: docs/interop/vfio-user.rst and hw/vfio-user/protocol.h in QEMU.

Everything is little-endian: client and server share a machine, and QEMU's guests here are x86.
"""

from __future__ import annotations

import errno
import json
import struct
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

MAJOR, MINOR = 0, 0
"""The protocol's version; QEMU proposes 0.0."""
MAX_TRANSFER = 1 << 20
"""Bytes of data in one message that either end takes, where nothing else is agreed upon."""
MAX_FDS = 8
"""File descriptors that are taken with one message: QEMU's own limit (VFIO_USER_DEF_MAX_FDS)."""
MAX_DMA_MAPS = 65535
"""Memory ranges that a client may have mapped at a time: the protocol's default."""
_MAX_JSON = 4096
"""Bytes of a version message's JSON; QEMU's has about 200."""

HEADER = struct.Struct("<HHIII")
REGION_ACCESS = struct.Struct("<QII")
DMA_ACCESS = struct.Struct("<QQ")
DMA_MAP = struct.Struct("<IIQQQ")
DMA_UNMAP = struct.Struct("<IIQQ")
DEVICE_INFO = struct.Struct("<IIII")
REGION_INFO = struct.Struct("<IIIIQQ")
IRQ_INFO = struct.Struct("<IIII")
SET_IRQS = struct.Struct("<IIIII")
_VERSION = struct.Struct("<HH")
_FIXED = HEADER.size + DMA_MAP.size
MAX_MESSAGE = MAX_TRANSFER + _FIXED
"""Bytes of the longest message that is taken: a transfer, with its header and the longest fixed part."""


class Command(IntEnum):
    """What a message asks for."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15


class Flag(IntFlag):
    """Bits of a header's flags; the type is in the lowest four."""

    REPLY = 0x1
    TYPE = 0xF
    NO_REPLY = 0x10
    ERROR = 0x20


REPLY, TYPE, NO_REPLY, ERROR = (int(flag) for flag in (Flag.REPLY, Flag.TYPE, Flag.NO_REPLY, Flag.ERROR))


class ProtocolError(Exception):
    """The other end says something after which nothing that it says can be understood: the connection ends."""


class Refused(Exception):
    """A message asks for what cannot be: it is answered with an error number."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {why}")
        self.errno = number


class Header(NamedTuple):
    """The first 16 bytes of a message. `size` counts them too."""

    id: int
    command: int
    size: int
    flags: int
    error: int


class Client(NamedTuple):
    """What the other end has said of itself."""

    max_transfer: int = MAX_TRANSFER


def unpack(layout: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """Read the fixed part of a message. Raises `Refused` where it is too short."""
    if len(body) < layout.size:
        raise Refused(errno.EINVAL, f"a message of {len(body)} bytes, where {layout.size} are needed")
    return layout.unpack_from(body)


def unpack_sized(layout: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """Read the fixed part of a message that begins with argsz, and give what follows that.

    argsz is what the sender has room for in an answer. Raises `Refused` where that is too little.
    """
    argsz, *others = unpack(layout, body)
    if argsz < layout.size:
        raise Refused(errno.EINVAL, f"argsz {argsz}, where {layout.size} are needed")
    return tuple(others)


def version_request(body: bytes) -> Client:
    """Read the first message of a client. Raises `Refused` for one with which nothing can be agreed upon."""
    major, _minor = unpack(_VERSION, body)
    if major != MAJOR:
        raise Refused(errno.ENOTSUP, f"protocol version {major}, where {MAJOR} is spoken")
    text = body[_VERSION.size :]
    if not text:
        return Client()
    if len(text) > _MAX_JSON or text[-1:] != b"\0":
        raise Refused(errno.EINVAL, f"capabilities of {len(text)} bytes, not ended by NUL or too long")
    try:
        given = json.loads(text[:-1].decode("utf-8"))
        capabilities = given.get("capabilities", {})
        wanted = capabilities.get("max_data_xfer_size", MAX_TRANSFER)
    except (ValueError, AttributeError, RecursionError) as error:
        raise Refused(errno.EINVAL, "capabilities that are no JSON object") from error
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise Refused(errno.EINVAL, "max_data_xfer_size is no number of bytes")
    return Client(min(wanted, MAX_TRANSFER))


def version_reply() -> bytes:
    """Give the body of the answer to a client's first message."""
    capabilities = {
        "max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_TRANSFER, "max_dma_maps": MAX_DMA_MAPS, "pgsizes": 4096,
        "write_multiple": False,
    }  # fmt: skip
    return _VERSION.pack(MAJOR, MINOR) + json.dumps({"capabilities": capabilities}).encode() + b"\0"
