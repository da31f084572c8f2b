# SPDX-License-Identifier: GPL-2.0-or-later
"""A device with Scalable I/O Virtualization: many SDIs, each of which copies memory when its doorbell is rung.

An SDI (Scalable Device Interface) has a Routing ID and nothing else: no configuration space, no BAR, no MSI-X table.
Whoever drives one does so through the BARs of the physical function:

BAR 0, registers, 32 bits each:

| Offset | Register | Meaning |
|---|---|---|
| 0x00 | identification | reads as 0x564f4953, "SIOV" |
| 0x04 | total_sdis | how many SDIs there are |
| 0x08 | enabled_sdis | how many of them are enabled |
| 0x0c | select | the SDI that the next three are about |
| 0x10 | control | bit 0: the selected SDI is enabled |
| 0x14 | routing_id | RID(PF) + First SDI Offset + select x SDI Stride, less RID(PF) |
| 0x18 | completions | how many copies the selected SDI has made since it was enabled |
| 0x1c | error | bits that writing 1 clears: see `Error` |

BAR 2, doorbells: 32 bits for each SDI. Writing `n` has the SDI take the `DESCRIPTOR` at bus address `n << 6`.
BAR 4: the MSI-X table, and its pending bits from half of it on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from harness.device import capabilities
from harness.device.capabilities import Capability, Place
from harness.device.config_space import Bar, Identity
from harness.device.device import Device, DmaError
from harness.device.log import Kind
from harness.device.registers import LayoutError, Register

REGISTERS, DOORBELLS, MSIX = 0, 2, 4
"""The BARs."""
IDENTIFICATION = 0x564F4953
DESCRIPTOR = struct.Struct("<QQQIHH")
"""A copy: source, destination, address of the completion, bytes, vector, tag. At an address of a multiple of 64."""
COMPLETION = struct.Struct("<HHI")
"""What is written when a copy is over: tag, status (0 or an `Error`), bytes that were copied."""
DESCRIPTOR_SHIFT = 6
LARGEST_COPY = 1 << 20
"""Bytes of one copy at most."""
_STEP = 16 * 1024
"""Bytes after which a copy looks whether it was stopped: one message, so that no more than one is then under way."""
_ACTIVE = 1
"""Bit 0 of SIOV Status: at least one SDI is enabled."""
_DISGUISED = 0x3F
"""An extended capability ID that nobody has been given: QEMU looks at IDs once, when it takes the device."""
_PAGE = 4096


class Error(IntFlag):
    """Bits of the register error, and of a completion's status."""

    NO_SUCH_SDI = 1
    NOT_ENABLED = 2
    DMA = 4
    TOO_LONG = 8
    NO_SUCH_VECTOR = 16
    TOO_MANY = 32


@dataclass(eq=False)
class _Run:
    """What an SDI does from when it is enabled until it is stopped."""

    completions: int = 0
    stopped: bool = False


class SiovDevice(Device):
    """A PCIe endpoint with the SIOV capability; every field of that is free, also to be nonsense.

    `siov_status` is what SIOV Status holds at power-on, which is when QEMU takes the device and resets it. Its bit 0
    then follows the SDIs that are enabled; where it is set from the start, it is as if some had been left enabled, up
    to a function-level reset. `place` is where the capability stands among the extended ones. `all_ones_header` puts a
    header of all ones at the chain's end, `siov=False` leaves the capability out, `intel_dvsec` adds Intel's older one.
    `total_vfs` adds SR-IOV, which QEMU keeps from guests of a vfio-user device: it has another ID until `show_sriov`.
    """

    def __init__(
        self, *, total_sdis: int = 4, first_sdi_offset: int = 1, sdi_stride: int = 1, siov_status: int = 0,
        siov_capabilities: int = 0, place: Place = "middle", siov: bool = True, all_ones_header: bool = False,
        intel_dvsec: bool = False, total_vfs: int = 0, first_vf_offset: int = 1, vf_stride: int = 1, vectors: int = 8,
        vendor_id: int = 0x1B36, device_id: int = 0x0038, class_code: int = 0x088000,
        serial_number: int = 0x494F562D53494F56,
    ) -> None:  # fmt: skip
        if not 0 <= total_sdis <= 0xFFFF:
            raise LayoutError(f"{total_sdis} SDIs: a function has 0 to 65535")
        if not 0 <= vectors <= 2048:
            raise LayoutError(f"MSI-X with {vectors} vectors: it has 0 to 2048")
        extended = [capabilities.serial_number(serial_number), capabilities.ats(), capabilities.pasid()]
        if intel_dvsec:
            extended.append(capabilities.intel_siov_dvsec())
        if siov:
            one = capabilities.siov(
                total_sdis=total_sdis, first_sdi_offset=first_sdi_offset, sdi_stride=sdi_stride, status=siov_status,
                capabilities=siov_capabilities,
            )  # fmt: skip
            extended.insert(_index(place, len(extended)), one)
        if total_vfs:
            extended.append(
                capabilities.sriov(
                    total_vfs=total_vfs, first_vf_offset=first_vf_offset, vf_stride=vf_stride, id_=_DISGUISED
                )
            )
        if all_ones_header:
            extended.append(capabilities.all_ones())
        super().__init__(
            Identity(vendor_id, device_id, class_code, revision=1, subsystem_vendor_id=vendor_id, subsystem_id=0x0038),
            [*_standard(vectors), *extended],
            {
                REGISTERS: Bar(_PAGE, _registers(total_sdis)),
                DOORBELLS: Bar(_power_of_two(4 * total_sdis), _doorbells(total_sdis)),
                MSIX: Bar(_msix_size(vectors)),
            },
        )
        self.total_sdis = total_sdis
        self.first_sdi_offset = first_sdi_offset
        self.sdi_stride = sdi_stride
        self._has_siov = siov
        self._active_at_power_on = self._left_active = bool(siov_status & _ACTIVE)
        self._enabled: dict[int, _Run] = {}
        self._prepare_registers()

    @property
    def enabled(self) -> frozenset[int]:
        """The SDIs that are enabled."""
        return frozenset(self._enabled)

    @property
    def siov_status(self) -> int:
        """SIOV Status as software reads it."""
        return self.config["siov_status"]

    def show_sriov(self) -> None:
        """Let the SR-IOV capability have its ID. Who looks for capabilities afterwards finds it; VFs never appear."""
        self.config.poke(self.config.find(_DISGUISED), capabilities.SRIOV.to_bytes(2, "little"))

    def on_reset(self, kind: Kind) -> None:
        """Stop all SDIs: a reset leaves none enabled, and lets no copy go on."""
        for sdi in list(self._enabled):
            self._stop(sdi)
        self._left_active = kind is not Kind.FLR and self._active_at_power_on
        self._show_status()

    def _prepare_registers(self) -> None:
        registers = self.bars[REGISTERS]
        registers.on_read("enabled_sdis", lambda _: len(self._enabled))
        registers.on_read("completions", lambda _: self._enabled.get(registers["select"], _Run()).completions)
        registers.on_read(
            "routing_id", lambda _: self.first_sdi_offset + registers["select"] * self.sdi_stride & 0xFFFFFFFF
        )
        registers.on_write("select", lambda _, sdi: registers.set("control", int(sdi in self._enabled)))
        registers.on_write("control", lambda _, value: self._control(registers["select"], enable=bool(value & 1)))
        if self.total_sdis:
            self.bars[DOORBELLS].on_write("doorbell", self._rung)

    def _control(self, sdi: int, *, enable: bool) -> None:
        if sdi >= self.total_sdis:
            self.bars[REGISTERS]["control"] = 0
            self._note(Error.NO_SUCH_SDI)
        elif enable:
            self._enabled.setdefault(sdi, _Run())
        else:
            self._stop(sdi)
        self._show_status()

    def _stop(self, sdi: int) -> None:
        run = self._enabled.pop(sdi, None)
        if run is not None:
            run.stopped = True

    def _show_status(self) -> None:
        if self._has_siov:
            active = bool(self._enabled) or self._left_active
            self.config["siov_status"] = self.config["siov_status"] & ~_ACTIVE | active

    def _rung(self, sdi: int, value: int) -> None:
        run = self._enabled.get(sdi)
        if run is None:
            self._note(Error.NOT_ENABLED)
        elif not self.later(lambda: self._copy(run, value << DESCRIPTOR_SHIFT)):
            self._note(Error.TOO_MANY)

    def _copy(self, run: _Run, address: int) -> None:
        """Do what a descriptor says; once the SDI is stopped nothing more is begun, and nothing shows of it."""
        try:
            source, destination, completion, length, vector, tag = DESCRIPTOR.unpack(
                self._fetch(run, address, DESCRIPTOR.size)
            )
            error = (
                self._transfer(run, source, destination, length) if self._may_raise(vector) else Error.NO_SUCH_VECTOR
            )
            self._note(error, run)
            run.completions += 1
            self._put(run, completion, COMPLETION.pack(tag, error, 0 if error else length))
        except DmaError:
            self._note(Error.DMA, run)
            return
        with self.lock:
            if vector < self.vectors and not run.stopped:
                self.interrupt(vector)

    def _may_raise(self, vector: int) -> bool:
        return vector < self.vectors or self.vectors == 0  # a device without MSI-X leaves it at the completion

    def _transfer(self, run: _Run, source: int, destination: int, length: int) -> Error:
        if length > LARGEST_COPY:
            return Error.TOO_LONG
        try:
            self._put(run, destination, self._fetch(run, source, length))
        except DmaError:
            return Error.DMA
        return Error(0)

    def _fetch(self, run: _Run, address: int, count: int) -> bytes:
        parts = []
        for offset in range(0, count, _STEP):
            self._check(run)
            parts.append(self.dma_read(address + offset, min(_STEP, count - offset)))
        return b"".join(parts)

    def _put(self, run: _Run, address: int, data: bytes) -> None:
        for offset in range(0, len(data), _STEP):
            self._check(run)
            self.dma_write(address + offset, data[offset : offset + _STEP])

    def _check(self, run: _Run) -> None:
        if run.stopped:
            raise DmaError("the SDI was stopped")

    def _note(self, error: Error, run: _Run | None = None) -> None:
        with self.lock:
            if run is None or not run.stopped:
                self.bars[REGISTERS]["error"] |= error


def _registers(total_sdis: int) -> tuple[Register, ...]:
    return (
        Register("identification", 0x00, 4, IDENTIFICATION),
        Register("total_sdis", 0x04, 4, total_sdis),
        Register("enabled_sdis", 0x08, 4),
        Register("select", 0x0C, 4, rw=0xFFFF),
        Register("control", 0x10, 4, rw=1),
        Register("routing_id", 0x14, 4),
        Register("completions", 0x18, 4),
        Register("error", 0x1C, 4, w1c=0x3F),
    )


def _doorbells(total_sdis: int) -> tuple[Register, ...]:
    return (Register("doorbell", 0, 4, rw=0xFFFFFFFF, count=total_sdis),) if total_sdis else ()


def _standard(vectors: int) -> list[Capability]:
    if vectors == 0:
        return [capabilities.express_endpoint()]
    half = _msix_size(vectors) // 2
    return [
        capabilities.express_endpoint(),
        capabilities.msix(vectors, table_bar=MSIX, pba_bar=MSIX, pba_offset=half),
    ]


def _msix_size(vectors: int) -> int:
    return 2 * _power_of_two(16 * vectors)


def _power_of_two(size: int) -> int:
    return max(_PAGE, 1 << (size - 1).bit_length()) if size else _PAGE


def _index(place: str, count: int) -> int:
    places = {"first": 0, "middle": count // 2, "last": count}
    if place not in places:
        raise LayoutError(f"place {place!r}: the capability stands first, middle or last")
    return places[place]
