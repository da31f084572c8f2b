# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's session with a device: what its messages ask for, done and answered."""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from harness.device.device import Device, DmaError, NoReply
from harness.device.vfio_user import interrupts, memory, wire
from harness.device.vfio_user.channel import Channel, Message, close_all
from harness.device.vfio_user.wire import Client, Command, ProtocolError, Refused

_log = logging.getLogger(__name__)

_REGIONS = 9
"""Regions of a PCI device (VFIO_PCI_NUM_REGIONS): BARs, ROM, configuration space, VGA."""
_FLAGS_RESET_PCI = 3
_READ_WRITE = 3
_UNMAP_ALL = 2  # VFIO_DMA_UNMAP_FLAG_ALL
_DMA_CHUNK = 16 * 1024
"""Bytes asked for in one DMA message. QEMU 11.1 sends an answer with one non-blocking write (hw/vfio-user/proxy.c,
vfio_user_send_qio()), and what does not fit into the socket's buffer is lost. The kernel takes a message of up to
32 KiB whole or not at all, also where posted writes have filled the buffer; of a longer one it may take a part.
"""
_DMA_TIMEOUT = 10.0
"""Seconds for QEMU to answer a DMA message: its main loop may be busy."""

_Handler = Callable[[bytes, list[int]], bytes]


class Session:
    """Serves one connection until it ends: `run` receives, whoever does DMA waits for its answers meanwhile.

    All DMA goes by message, also where the client passes files of its memory. With `memory_files` those are read and
    written instead: only where the client shares its memory, which QEMU 11.1 does not say.
    """

    def __init__(self, device: Device, channel: Channel, *, memory_files: bool = False) -> None:
        self._device = device
        self._memory_files = memory_files
        self._channel = channel
        self._client: Client | None = None
        self._memory = memory.Memory()
        self._vectors = interrupts.Vectors(device.vectors)
        self._ids = itertools.count()
        self._waiting: dict[int, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._ended = False
        self._receiver: threading.Thread | None = None
        self._handlers: dict[int, _Handler] = {
            Command.DMA_MAP: self._dma_map, Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info, Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info, Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read, Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._reset,
        }  # fmt: skip

    def run(self) -> None:
        """Serve the client until it is gone, or says what cannot be understood."""
        self._receiver = threading.current_thread()
        try:
            while (message := self._channel.receive()) is not None:
                try:
                    self._take(message)
                finally:
                    if message.fds:
                        close_all(message.fds)
        except ProtocolError as error:
            _log.warning("connection closed: %s", error)
        except OSError as error:
            _log.info("connection lost: %s", error)
        finally:
            self._end()

    def disconnect(self) -> None:
        """End the connection."""
        self._channel.shutdown()

    def interrupt(self, vector: int) -> bool:
        """Raise an MSI-X vector; False where the client awaits none."""
        return self._vectors.signal(vector)

    def dma_read(self, address: int, count: int) -> bytes:
        """Read the client's memory. Raises `DmaError`."""
        parts = []
        for piece, at, length in self._memory.pieces(address, count, write=False):
            if piece.fd is not None:
                parts.append(self._memory.read_file(piece, at, length))
                continue
            for start, part in self._chunks(at, length):
                request = wire.DMA_ACCESS.pack(start, part)
                reply = self._ask(Command.DMA_READ, request, wire.DMA_ACCESS.size + part)
                parts.append(reply[wire.DMA_ACCESS.size :])
        return b"".join(parts)

    def dma_write(self, address: int, data: bytes) -> None:
        """Write the client's memory. Raises `DmaError`."""
        for piece, at, length in list(self._memory.pieces(address, len(data), write=True)):
            given = data[at - address : at - address + length]
            if piece.fd is not None:
                self._memory.write_file(piece, at, given)
                continue
            for start, part in self._chunks(at, length):
                body = given[start - at : start - at + part]
                # QEMU 10.2 acknowledges with the header alone, others with address and count too.
                self._ask(Command.DMA_WRITE, wire.DMA_ACCESS.pack(start, part) + body, 0)

    def _take(self, message: Message) -> None:
        header = message.header
        kind = header.flags & wire.TYPE
        if kind == wire.REPLY:
            self._answered(message)
            return
        if kind:
            raise ProtocolError(f"a message of type {kind}")
        error, body = 0, b""
        try:
            body = self._do(header.command, message.body, message.fds)
        except NoReply:
            return
        except Refused as refused:
            _log.info("refused: %s", refused)
            error = refused.errno
        except Exception as failure:  # noqa: BLE001 - a model's mistake is told to the test, and not by a hang
            self._device.fail(failure)
            error = errno.EIO
        if not header.flags & wire.NO_REPLY:
            flags = wire.REPLY | wire.ERROR if error else wire.REPLY
            self._channel.send(header.id, header.command, flags, body if not error else b"", error)
        if self._client is None:
            raise ProtocolError("nothing was agreed upon")

    def _do(self, command: int, body: bytes, fds: list[int]) -> bytes:
        if self._client is None:
            if command != Command.VERSION:
                raise Refused(errno.EINVAL, f"command {command} before VERSION")
            client = wire.version_request(body)
            self._device.attach(self)
            self._client = client
            return wire.version_reply()
        handler = self._handlers.get(command)
        if handler is None:
            raise Refused(errno.ENOTSUP, f"command {command}")
        return handler(body, fds)

    def _dma_map(self, body: bytes, fds: list[int]) -> bytes:
        flags, offset, address, size = wire.unpack_sized(wire.DMA_MAP, body)
        if len(fds) > 1:
            raise Refused(errno.EINVAL, f"DMA_MAP with {len(fds)} file descriptors")
        if not self._memory_files:
            close_all(fds)
        self._memory.map(address, size, flags, fds[0] if fds else None, offset)
        fds.clear()
        return b""

    def _dma_unmap(self, body: bytes, _fds: list[int]) -> bytes:
        flags, address, size = wire.unpack_sized(wire.DMA_UNMAP, body)
        if flags & _UNMAP_ALL:
            self._memory.clear()
        else:
            self._memory.unmap(address, size)
        return body[: wire.DMA_UNMAP.size]

    def _device_info(self, body: bytes, _fds: list[int]) -> bytes:
        wire.unpack_sized(wire.DEVICE_INFO, body)
        return wire.DEVICE_INFO.pack(wire.DEVICE_INFO.size, _FLAGS_RESET_PCI, _REGIONS, interrupts.KINDS)

    def _region_info(self, body: bytes, _fds: list[int]) -> bytes:
        _, index, _, _, _ = wire.unpack_sized(wire.REGION_INFO, body)
        if index >= _REGIONS:
            raise Refused(errno.EINVAL, f"region {index}")
        size = self._device.size(index)
        return wire.REGION_INFO.pack(wire.REGION_INFO.size, _READ_WRITE if size else 0, index, 0, size, 0)

    def _irq_info(self, body: bytes, _fds: list[int]) -> bytes:
        _, index, _ = wire.unpack_sized(wire.IRQ_INFO, body)
        if index not in (interrupts.INTX, interrupts.MSI, interrupts.MSIX):
            raise Refused(errno.EINVAL, f"interrupts of kind {index}")  # of ERR, QEMU takes nothing but one or this
        count = self._device.vectors if index == interrupts.MSIX else 0
        flags = interrupts.INFO_EVENTFD | interrupts.INFO_NORESIZE if count else 0
        return wire.IRQ_INFO.pack(wire.IRQ_INFO.size, flags, index, count)

    def _set_irqs(self, body: bytes, fds: list[int]) -> bytes:
        flags, index, start, count = wire.unpack_sized(wire.SET_IRQS, body)
        self._vectors.set(flags, index, start, count, body[wire.SET_IRQS.size :], fds)
        self._device.deliver_pending()
        return b""

    def _region_read(self, body: bytes, _fds: list[int]) -> bytes:
        offset, region, count = wire.unpack(wire.REGION_ACCESS, body)
        self._check_access(region, offset, count)
        return wire.REGION_ACCESS.pack(offset, region, count) + self._device.read(region, offset, count)

    def _region_write(self, body: bytes, _fds: list[int]) -> bytes:
        offset, region, count = wire.unpack(wire.REGION_ACCESS, body)
        self._check_access(region, offset, count)
        data = body[wire.REGION_ACCESS.size :]
        if len(data) != count:
            raise Refused(errno.EINVAL, f"REGION_WRITE of {count} bytes with {len(data)}")
        self._device.write(region, offset, data)
        return wire.REGION_ACCESS.pack(offset, region, count)

    def _reset(self, _body: bytes, _fds: list[int]) -> bytes:
        self._device.reset()
        return b""

    def _check_access(self, region: int, offset: int, count: int) -> None:
        size = self._device.size(region)
        if not 0 < count <= wire.MAX_TRANSFER or offset + count > size:
            raise Refused(errno.EINVAL, f"{count} bytes at {offset:#x} of region {region}, which has {size:#x}")

    def _chunks(self, start: int, count: int) -> list[tuple[int, int]]:
        limit = min(_DMA_CHUNK, self._client.max_transfer if self._client else wire.MAX_TRANSFER)
        return [(start + done, min(limit, count - done)) for done in range(0, count, limit)]

    def _ask(self, command: Command, body: bytes, size: int) -> bytes:
        """Send a request to the client and wait for the answer, `size` bytes. Raises `DmaError`.

        A late answer finds its number still taken: it is not one that was not asked for.
        """
        if threading.current_thread() is self._receiver:
            raise RuntimeError("DMA in a hook would wait for QEMU, which waits for the hook: give it to Device.later()")
        answer: Future[bytes] = Future()
        with self._lock:
            if self._ended:
                raise DmaError("the client is gone")
            number = next(n for n in self._ids if n & 0xFFFF not in self._waiting) & 0xFFFF
            self._waiting[number] = answer
        try:
            self._channel.send(number, command, 0, body)
            data = answer.result(_DMA_TIMEOUT)
        except FutureTimeout as error:  # which is an OSError
            raise DmaError(f"the client did not answer {command.name} within {_DMA_TIMEOUT:g} s") from error
        except OSError as error:
            raise DmaError(f"the client is gone: {error.strerror}") from error
        if len(data) < size:
            raise DmaError(f"the client answered {command.name} with {len(data)} bytes, where {size} are needed")
        return data[:size]

    def _answered(self, message: Message) -> None:
        waiting = self._waiting.pop(message.header.id, None)
        if waiting is None:
            raise ProtocolError(f"an answer to a message {message.header.id} that was not sent")
        if message.header.flags & wire.ERROR:
            waiting.set_exception(DmaError(f"the client refuses: errno {message.header.error}"))
        else:
            waiting.set_result(message.body)

    def _end(self) -> None:
        with self._lock:
            self._ended = True
        attached = self._client is not None
        self._channel.shutdown()
        if attached:
            self._device.detach()
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(DmaError("the client is gone"))
        self._vectors.clear()
        self._memory.clear()
        self._channel.close()
