# SPDX-License-Identifier: GPL-2.0-or-later
"""A user of VFIO in the guest: a function driven from user space, its DMA behind an IOMMU.

The calls are those of Linux's include/uapi/linux/vfio.h, made one by one through the agent, so that each has its true
errno. What they open is open as long as the connection to the agent.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from harness.errors import GuestFailure
from harness.guest import agent
from harness.guest.agent import Agent, GuestErrno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.ssh import COMMAND_TIMEOUT, GuestTimeout

CONFIG = 7
"""The region that is configuration space (VFIO_PCI_CONFIG_REGION_INDEX); 0 to 5 are the BARs."""
_READ, _CLOSE, _POLL, _MMAP, _IOCTL, _PREAD, _PWRITE, _OPENAT, _EVENTFD2 = 0, 3, 7, 9, 16, 17, 18, 257, 290
"""System calls on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl)."""
_AT_FDCWD, _O_RDWR = -100, 2
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, _MAP_POPULATE = 3, 0x22, 0x8000
_SET_IOMMU, _GROUP_STATUS, _SET_CONTAINER, _GET_DEVICE_FD = 0x3B66, 0x3B67, 0x3B68, 0x3B6A
_DEVICE_INFO, _REGION_INFO, _SET_IRQS, _RESET, _MAP_DMA = 0x3B6B, 0x3B6C, 0x3B6E, 0x3B6F, 0x3B71
_TYPE1 = 1
_VIABLE = 1
_MSIX, _REQUEST = 2, 4
"""Interrupts by index: VFIO_PCI_MSIX_IRQ_INDEX, and VFIO_PCI_REQ_IRQ_INDEX, by which the kernel asks for the device."""
_DATA_EVENTFD_ACTION_TRIGGER = 0x24
_DMA_READ_WRITE = 3
_POLLIN = 1
_GROUP = struct.Struct("<II")
_INFO = struct.Struct("<IIIII4x")
_REGION = struct.Struct("<IIIIQQ")
_DMA = struct.Struct("<IIQQQ")
_IRQS = struct.Struct("<IIIII")


@dataclass(frozen=True)
class Memory:
    """Memory of the user's, which the function reaches at bus addresses from `iova` on."""

    iova: int
    size: int
    address: int


class VfioUser:
    """A process in the guest that has a function open by vfio-pci, to which it must be bound.

    Raises `GuestErrno` for calls that fail, `GuestFailure` where the function's group cannot be used.
    """

    def __init__(self, guest: Guest, function: Function, *, token: str = "") -> None:
        """`token`, a UUID, is what the PF's user makes known to the users of its VFs, who must have the same."""
        self.function = function
        self._token = token
        self._agent = Agent(guest.session)  # a process of its own
        try:
            self._memory = self._open("/proc/self/mem")
            self._container = self._open("/dev/vfio/vfio")
            self._device = self._open_device()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process: the kernel closes the function, and unmaps the memory."""
        self._agent.close()

    def region(self, index: int) -> tuple[int, int]:
        """Give where a region begins in the device's file, and its size."""
        asked = _REGION.pack(_REGION.size, 0, index, 0, 0, 0)
        _, [told] = self._ioctl(self._device, _REGION_INFO, asked, "VFIO_DEVICE_GET_REGION_INFO")
        _, _, _, _, size, offset = _REGION.unpack(told)
        return offset, size

    def read(self, region: int, offset: int, count: int) -> bytes:
        """Read from a region, with one pread(2)."""
        start, _ = self.region(region)
        got, [data] = self._call(_PREAD, self._device, bytes(count), count, start + offset, what="reading a region")
        return data[:got]

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write to a region, with one pwrite(2)."""
        start, _ = self.region(region)
        self._write(self._device, start + offset, data, "a region")

    def map(self, iova: int, size: int) -> Memory:
        """Let the function reach `size` bytes of new memory, whole pages, at the bus address `iova`."""
        address, _ = self._call(
            _MMAP, 0, size, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS | _MAP_POPULATE, -1, 0, what="mapping memory"
        )
        asked = _DMA.pack(_DMA.size, _DMA_READ_WRITE, address, iova, size)
        self._ioctl(self._container, _MAP_DMA, asked, "VFIO_IOMMU_MAP_DMA")
        return Memory(iova, size, address)

    def load(self, memory: Memory, offset: int, count: int) -> bytes:
        """Read the user's own memory."""
        _, [data] = self._call(
            _PREAD, self._memory, bytes(count), count, memory.address + offset, what="reading memory"
        )
        return data

    def store(self, memory: Memory, offset: int, data: bytes) -> None:
        """Write the user's own memory."""
        self._write(self._memory, memory.address + offset, data, "memory")

    def enable_msix(self, vectors: int) -> list[int]:
        """Enable MSI-X; gives an event descriptor for each vector, for `wait`."""
        return self._events(_MSIX, vectors)

    def listen_for_request(self) -> int:
        """Give an event descriptor, for `wait`, by which the kernel asks its user to let go of the function."""
        return self._events(_REQUEST, 1)[0]

    def wait(self, event: int, timeout: float = 10.0) -> int:
        """Wait for an interrupt; gives how many came. Raises `GuestTimeout`."""
        polled = struct.pack("<ihh", event, _POLLIN, 0)
        poll = agent.syscall(_POLL, polled, 1, int(timeout * 1000), what="poll")
        came, _ = agent.result(self._agent.call(poll, timeout=timeout + COMMAND_TIMEOUT))
        if not came:
            raise GuestTimeout(f"no interrupt of {self.function.bdf} within {timeout:g} s")
        _, [count] = self._call(_READ, event, bytes(8), 8, what="reading an event descriptor")
        return int.from_bytes(count, "little")

    def reset(self) -> None:
        """Reset the function."""
        self._call(_IOCTL, self._device, _RESET, 0, what="VFIO_DEVICE_RESET")

    def _events(self, index: int, count: int) -> list[int]:
        """Make event descriptors for all interrupts of one index."""
        made = self._agent.batch([agent.syscall(_EVENTFD2, 0, 0, what="making an event descriptor")] * count)
        events = [agent.result(answer)[0] for answer in made]
        header = _IRQS.pack(_IRQS.size + 4 * count, _DATA_EVENTFD_ACTION_TRIGGER, index, 0, count)
        asked = header + struct.pack(f"<{count}i", *events)
        self._ioctl(self._device, _SET_IRQS, asked, "VFIO_DEVICE_SET_IRQS")
        return events

    def _write(self, file: int, place: int, data: bytes, what: str) -> None:
        written, _ = self._call(_PWRITE, file, data, len(data), place, what=f"writing to {what}")
        if written != len(data):
            raise GuestFailure(f"of {len(data)} bytes to {what} of {self.function.bdf} only {written} were written")

    def _open_device(self) -> int:
        group = self._open(f"/dev/vfio/{self._group()}")
        _, [status] = self._ioctl(group, _GROUP_STATUS, _GROUP.pack(_GROUP.size, 0), "VFIO_GROUP_GET_STATUS")
        if not _GROUP.unpack(status)[1] & _VIABLE:
            raise GuestFailure(
                f"the IOMMU group of {self.function.bdf} is not viable: not all of it is bound to vfio-pci"
            )
        self._ioctl(group, _SET_CONTAINER, struct.pack("<i", self._container), "VFIO_GROUP_SET_CONTAINER")
        self._call(_IOCTL, self._container, _SET_IOMMU, _TYPE1, what="VFIO_SET_IOMMU")
        token = f" vf_token={self._token}" if self._token else ""
        name = f"{self.function.bdf}{token}".encode() + b"\0"
        device, _ = self._ioctl(group, _GET_DEVICE_FD, name, "VFIO_GROUP_GET_DEVICE_FD")
        return device

    def _group(self) -> str:
        try:
            link = self._agent.call(agent.link(f"{self.function.path}/iommu_group")).value()
        except GuestErrno as error:
            raise GuestFailure(f"{self.function.bdf} is in no IOMMU group: is there an IOMMU, and is it on?") from error
        return link.decode("ascii", errors="replace").rpartition("/")[2]

    def _open(self, path: str) -> int:
        name = path.encode() + b"\0"
        return self._call(_OPENAT, _AT_FDCWD, name, _O_RDWR, 0, what=f"opening {path}")[0]

    def _ioctl(self, file: int, request: int, argument: bytes, what: str) -> tuple[int, list[bytes]]:
        return self._call(_IOCTL, file, request, argument, what=what)

    def _call(self, number: int, *arguments: int | bytes, what: str) -> tuple[int, list[bytes]]:
        what = f"{what} of {self.function.bdf}"
        return agent.result(self._agent.call(agent.syscall(number, *arguments, what=what)))
