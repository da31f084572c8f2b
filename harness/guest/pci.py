# SPDX-License-Identifier: GPL-2.0-or-later
"""PCI functions of a guest, as its sysfs shows them."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from harness.errors import GuestFailure
from harness.guest import agent
from harness.guest.agent import Agent, Call

_SYSFS = "/sys/bus/pci"
_BDF = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])")
_VIRTFN = re.compile(r"virtfn[0-9]{1,5}")


@dataclass(frozen=True, order=True)
class Bdf:
    """The address of a PCI function: domain, bus, device, function."""

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Bdf:
        """Read an address as sysfs writes it, `0000:01:00.0`; raises `ValueError`."""
        match = _BDF.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no PCI address such as 0000:01:00.0")
        return cls(*(int(part, 16) for part in match.groups()))

    @classmethod
    def from_routing_id(cls, routing_id: int, domain: int = 0) -> Bdf:
        """Give the function that a 16-bit routing ID names: bus << 8 | device << 3 | function."""
        return cls(domain, routing_id >> 8, routing_id >> 3 & 0x1F, routing_id & 7)

    @property
    def routing_id(self) -> int:
        """The 16 bits that name the function on the link."""
        return self.bus << 8 | self.device << 3 | self.function

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"


class Function:
    """One PCI function of a guest. Reads and writes raise `GuestErrno` with what the system call said."""

    def __init__(self, on: Agent, bdf: Bdf) -> None:
        self._agent = on
        self.bdf = bdf

    def __repr__(self) -> str:
        return f"<{self.bdf}>"

    def __str__(self) -> str:
        return str(self.bdf)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Function) and self.bdf == other.bdf

    def __hash__(self) -> int:
        return hash(self.bdf)

    @property
    def path(self) -> str:
        """The function's folder in sysfs."""
        return f"{_SYSFS}/devices/{self.bdf}"

    @property
    def exists(self) -> bool:
        """Whether the kernel knows the function now."""
        return self.bdf in {function.bdf for function in functions(self._agent)}

    def attributes(self) -> frozenset[str]:
        """Give the names of all its sysfs attributes and links."""
        return frozenset(_names(self._do(agent.names(self.path))))

    def read(self, attribute: str) -> str:
        """Read an attribute, without the newline at its end."""
        return self._do(agent.read(f"{self.path}/{attribute}")).decode("utf-8", errors="replace").removesuffix("\n")

    def write(self, attribute: str, value: str | bytes | int) -> None:
        """Write an attribute with one write(2), exactly the bytes given."""
        data = value if isinstance(value, bytes) else str(value).encode()
        self._do(agent.write(f"{self.path}/{attribute}", data))

    def config(self, offset: int = 0, length: int = 4096) -> bytes:
        """Read configuration space; shorter than asked for where it ends."""
        return self._do(agent.read(f"{self.path}/config", offset, length))

    @property
    def numvfs(self) -> int:
        """`sriov_numvfs`: how many VFs are enabled; write it to enable or disable."""
        return self._number("sriov_numvfs")

    @numvfs.setter
    def numvfs(self, count: int) -> None:
        self.write("sriov_numvfs", count)

    @property
    def totalvfs(self) -> int:
        """`sriov_totalvfs`: how many VFs the driver lets be enabled."""
        return self._number("sriov_totalvfs")

    @property
    def offset(self) -> int:
        """`sriov_offset`: First VF Offset."""
        return self._number("sriov_offset")

    @property
    def stride(self) -> int:
        """`sriov_stride`: VF Stride."""
        return self._number("sriov_stride")

    @property
    def vfs(self) -> list[Function]:
        """The VFs that the kernel links from this PF, in the order of their index."""
        links = [name for name in self.attributes() if _VIRTFN.fullmatch(name)]
        links.sort(key=lambda name: int(name.removeprefix("virtfn")))
        answers = self._agent.batch([agent.link(f"{self.path}/{name}") for name in links])
        return [Function(self._agent, _target(answer.value())) for answer in answers]

    @property
    def physfn(self) -> Function | None:
        """The PF of this VF; None for any other function that is there."""
        link = self._link("physfn")
        return None if link is None else Function(self._agent, _target(link))

    @property
    def upstream(self) -> Function | None:
        """The bridge or port above it; None on a root bus."""
        above, _, _ = self._do(agent.link(self.path)).decode("utf-8", errors="replace").rpartition("/")
        folder = above.rpartition("/")[2]
        return Function(self._agent, Bdf.parse(folder)) if _BDF.fullmatch(folder) else None

    @property
    def buses(self) -> tuple[int, int, int]:
        """Of a bridge: its primary, secondary and subordinate bus numbers (PCI Express Base Specification, 7.5.1.3)."""
        numbers = self.config(0x18, 3)
        if len(numbers) != 3:
            raise GuestFailure(f"{self.bdf} has no bus numbers: its configuration space ends before 0x1b")
        return numbers[0], numbers[1], numbers[2]

    @property
    def driver(self) -> str | None:
        """The name of the driver that is bound; None without one, while the function is there."""
        link = self._link("driver")
        return None if link is None else _last_name(link)

    def unbind(self) -> None:
        """Take its driver from it."""
        self.write("driver/unbind", str(self.bdf))

    def bind(self, driver: str) -> None:
        """Give it to a driver that knows its ids or is named by its `driver_override`."""
        self._do(agent.write(f"{_SYSFS}/drivers/{driver}/bind", str(self.bdf).encode()))

    def override(self, driver: str) -> None:
        """Hand it over to `driver` by `driver_override`, whatever its ids."""
        if self.driver is not None:
            self.unbind()
        self.write("driver_override", driver)
        self.bind(driver)

    def _link(self, name: str) -> bytes | None:
        """Read one of its links; None without it. Raises `GuestErrno` (`ENOENT`) for a function that is gone."""
        link, itself = self._agent.batch([agent.link(f"{self.path}/{name}"), agent.link(self.path)])
        if link.errno == errno.ENOENT:
            itself.value()
            return None
        return link.value()

    def _number(self, attribute: str) -> int:
        text = self.read(attribute)
        try:
            return int(text)
        except ValueError as error:
            raise GuestFailure(f"{attribute} of {self.bdf} is no number: {text[:80]!r}") from error

    def _do(self, call: Call) -> bytes:
        return self._agent.call(call).value()


def functions(on: Agent) -> list[Function]:
    """Give all PCI functions that the guest's kernel knows, in the order of their addresses."""
    listed = _names(on.call(agent.names(f"{_SYSFS}/devices")).value())
    return [Function(on, bdf) for bdf in sorted(_address(name) for name in listed)]


def _names(data: bytes) -> list[str]:
    return data.decode("utf-8", errors="replace").split("\0") if data else []


def _last_name(link: bytes) -> str:
    return link.decode("utf-8", errors="replace").rpartition("/")[2]


def _target(link: bytes) -> Bdf:
    return _address(_last_name(link))


def _address(name: str) -> Bdf:
    try:
        return Bdf.parse(name)
    except ValueError as error:
        raise GuestFailure(f"the guest's sysfs names a PCI function that is none: {name[:80]!r}") from error
