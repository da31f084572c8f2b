# SPDX-License-Identifier: GPL-2.0-or-later
"""A PCIe function that lives in Python: what it declares, what happens to it, and what it does itself."""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from harness.device.capabilities import Capability
from harness.device.config_space import COMMAND_MASTER, Bar, ConfigSpace, Identity
from harness.device.faults import Faults, NoReply
from harness.device.log import AccessLog, Kind
from harness.device.registers import Bank

_log = logging.getLogger(__name__)

CONFIG = 7
"""The region that is configuration space; 0 to 5 are the BARs (VFIO_PCI_CONFIG_REGION_INDEX, linux/vfio.h)."""
_INITIATE_FLR = 1 << 15  # Device Control, 7.5.3.4
_MSIX_ENABLE, _MSIX_MASK_ALL = 1 << 15, 1 << 14


CLOSE_TIMEOUT = 5.0
"""Seconds for a model's hook or job to return when its device is closed."""
QEMUS_PATIENCE = 5.0
"""Seconds that QEMU waits for an answer, unless told otherwise (x-msg-timeout)."""
MOST_JOBS = 4096
"""Jobs that wait at most."""


class DmaError(Exception):
    """Memory of the host could not be read or written by the device."""


class Host(Protocol):
    """What a device reaches while it is plugged in."""

    def dma_read(self, address: int, count: int) -> bytes:
        """Read memory; raises `DmaError`."""

    def dma_write(self, address: int, data: bytes) -> None:
        """Write memory; raises `DmaError`."""

    def interrupt(self, vector: int) -> bool:
        """Raise an MSI-X vector; False where the host has none for it now."""

    def disconnect(self) -> None:
        """Break the connection."""


class Device:
    """A function, declared; subclass it to give it behaviour.

    A test reads and changes `config` and `bars`, looks into `log` and sets `faults`. Registers do by themselves what
    their bits say; hooks (`Bank.on_read`, `Bank.on_write`) do the rest. They run while QEMU, and with it the guest,
    waits for the answer: what takes longer, or does DMA, goes to `later`.

    Raises `LayoutError` where what is declared cannot be.
    """

    def __init__(
        self, identity: Identity, capabilities: Sequence[Capability] = (), bars: Mapping[int, Bar] | None = None
    ) -> None:
        bars = bars or {}
        self.identity = identity
        self.config = ConfigSpace(identity, capabilities, bars)
        self.declared_bars = dict(bars)
        self.bars = {index: Bank(bar.size, bar.registers, f"BAR {index}") for index, bar in bars.items()}
        self.log = AccessLog()
        self.faults = Faults()
        self.lock = threading.RLock()
        self.broken: Exception | None = None
        self._regions: dict[int, Bank] = {**self.bars, CONFIG: self.config}
        self._host: Host | None = None
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._prepare_express()
        self._prepare_msix()

    def on_reset(self, kind: Kind) -> None:
        """Do what a reset means beyond registers: called with the lock held, after they were reset.

        `kind` is RESET, after which the device is as at power-on, or FLR.
        """

    @property
    def vectors(self) -> int:
        """How many MSI-X vectors it has."""
        return (self.config["msix_control"] & 0x7FF) + 1 if self.config.has_msix else 0

    @property
    def is_connected(self) -> bool:
        """Whether a QEMU is connected."""
        return self._host is not None

    def size(self, region: int) -> int:
        """Give the bytes of a region, 0 for one that it does not have."""
        return self._regions[region].size if region in self._regions else 0

    def read(self, region: int, offset: int, count: int) -> bytes:
        """Read as the bus does. Raises `NoReply`, and `KeyError` for a region that it does not have."""
        bank = self._regions[region]
        started = time.monotonic()
        with self.lock:
            data = bank.read(offset, count)
        self._check_time(started)
        try:
            data = self.faults.on_read(region, offset, data)
        finally:  # also where it stays without an answer
            self.log.add(Kind.READ, region, offset, count, int.from_bytes(data, "little"))
        return data

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write as the bus does; raises as `read`."""
        bank = self._regions[region]
        entry = (Kind.WRITE, region, offset, len(data), int.from_bytes(data, "little"))
        try:
            dropped = self.faults.on_write(region, offset, len(data))
        except NoReply:
            self.log.add(*entry)
            raise
        started = time.monotonic()
        with self.lock:  # whoever sees the entry finds it done
            if not dropped:
                bank.write(offset, data)
            self.log.add(*entry)
        self._check_time(started)

    def reset(self, kind: Kind = Kind.RESET) -> None:
        """Reset it: registers, interrupts, then what `on_reset` does."""
        with self.lock:
            for bank in self._regions.values():
                bank.reset()
            self.on_reset(kind)
            self.log.add(kind)

    def later(self, job: Callable[[], object]) -> bool:
        """Do something after the access that is being answered, in a thread of the device's own, one after another.

        A job holds no lock while it does DMA: QEMU may be waiting for the device meanwhile. What it raises makes the
        device `broken`, but for a `DmaError`. Gives False for one job too many, which is not done: a guest may ring
        faster than any device works.
        """
        if self._jobs.qsize() >= MOST_JOBS:
            return False
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name=f"{type(self).__name__} jobs", daemon=True)
            self._worker.start()
        self._jobs.put(job)
        return True

    def dma_read(self, address: int, count: int) -> bytes:
        """Read the guest's memory. Raises `DmaError`: not mapped, no bus mastering, no longer connected."""
        with self._failures_logged(address, count):
            data = self._master().dma_read(address, count)
        self.log.add(Kind.DMA_READ, offset=address, length=count)
        return data

    def dma_write(self, address: int, data: bytes) -> None:
        """Write the guest's memory; raises as `dma_read`."""
        with self._failures_logged(address, len(data)):
            self._master().dma_write(address, data)
        self.log.add(Kind.DMA_WRITE, offset=address, length=len(data))

    def interrupt(self, vector: int) -> None:
        """Raise an MSI-X vector; it stays pending while the guest has not enabled MSI-X or bus mastering, or masks all.

        While one is masked in the table, which is QEMU's own, QEMU keeps it back, and does not show it as pending.
        """
        if not 0 <= vector < self.vectors:
            raise ValueError(f"MSI-X vector {vector}: the device has {self.vectors}")
        with self.lock:
            if not self._deliver(vector):
                self._set_pending(vector, pending=True)
            self.log.add(Kind.INTERRUPT, value=vector)

    def deliver_pending(self) -> None:
        """Raise what is pending and can be raised now: called when the guest has enabled or unmasked vectors."""
        with self.lock:
            for vector in range(self.vectors):
                if self._is_pending(vector) and self._deliver(vector):
                    self._set_pending(vector, pending=False)

    def attach(self, host: Host) -> None:
        """Note that a QEMU is connected. Raises `RuntimeError` where another one is."""
        with self.lock:
            if self._host is not None:
                raise RuntimeError("the device is in a machine already: one device cannot be in two")
            self._host = host
        self.log.add(Kind.CONNECTED)

    def detach(self) -> None:
        """Note that none is any more."""
        self._host = None
        self.log.add(Kind.DISCONNECTED)

    def disconnect(self) -> None:
        """Break the connection to QEMU, as a device that is torn out."""
        host = self._host
        if host is not None:
            host.disconnect()

    def fail(self, error: Exception) -> None:
        """Note that the model itself is wrong; the first such error is kept."""
        _log.error("%s: the model failed", type(self).__name__, exc_info=error)
        self.broken = self.broken or error

    def close(self) -> None:
        """End its faults and its thread."""
        self.faults.clear()
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self._jobs.put(None)
        worker.join(CLOSE_TIMEOUT)
        if worker.is_alive():
            self.fail(RuntimeError(f"a job does not return: {stack_of(worker)}"))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                with suppress(DmaError):
                    job()
            except Exception as error:  # noqa: BLE001 - a model's mistake must reach the test, not end the thread
                self.fail(error)

    def _check_time(self, started: float) -> None:
        took = time.monotonic() - started
        if took > QEMUS_PATIENCE:
            self.fail(RuntimeError(f"a hook took {took:.1f} s; QEMU waits {QEMUS_PATIENCE:g} s: see Device.later()"))

    @contextmanager
    def _failures_logged(self, address: int, count: int) -> Iterator[None]:
        try:
            yield
        except DmaError as error:
            _log.info("%s: DMA of %d bytes at %#x: %s", type(self).__name__, count, address, error)
            self.log.add(Kind.DMA_ERROR, offset=address, length=count)
            raise

    def _master(self) -> Host:
        host = self._host  # which the thread that serves it may take away meanwhile
        if host is None:
            raise DmaError("no QEMU is connected")
        if not self.config["command"] & COMMAND_MASTER:
            raise DmaError("bus mastering is not enabled in Command")
        return host

    def _prepare_express(self) -> None:
        names = {register.name for register in self.config.registers}
        if "device_control" in names:
            self.config.on_write("device_control", self._on_device_control)

    def _on_device_control(self, _index: int, value: int) -> None:
        if value & _INITIATE_FLR:
            self.config["device_control"] = value & ~_INITIATE_FLR  # always reads as 0
            if self.config["device_capabilities"] & 1 << 28:
                self.reset(Kind.FLR)

    def _prepare_msix(self) -> None:
        self._pba = (0, 0)
        if self.config.has_msix:
            self._pba = self.config["msix_pba"] & 7, self.config["msix_pba"] & ~7
            for name in ("msix_control", "command"):
                self.config.on_write(name, lambda *_: self.deliver_pending())

    def _deliver(self, vector: int) -> bool:
        host, control = self._host, self.config["msix_control"]
        if host is None or not control & _MSIX_ENABLE or control & _MSIX_MASK_ALL:
            return False
        if not self.config["command"] & COMMAND_MASTER:  # a message is a write to memory
            return False
        return host.interrupt(vector)

    def _is_pending(self, vector: int) -> bool:
        bar, offset = self._pba
        return bool(self.bars[bar].peek(offset + vector // 8, 1)[0] & 1 << vector % 8)

    def _set_pending(self, vector: int, *, pending: bool) -> None:
        bar, offset = self._pba
        place = offset + vector // 8
        byte = self.bars[bar].peek(place, 1)[0]
        bit = 1 << vector % 8
        self.bars[bar].poke(place, bytes([byte | bit if pending else byte & ~bit]))


def stack_of(thread: threading.Thread) -> str:
    """Say in one line where a thread is."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "its thread has just ended"
    where = traceback.extract_stack(frame)
    return "; ".join(f"{one.filename}, line {one.lineno}, in {one.name}" for one in where[-3:])


__all__ = ["CONFIG", "Device", "DmaError", "Host", "NoReply"]
