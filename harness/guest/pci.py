# SPDX-License-Identifier: GPL-2.0-or-later
"""PCI functions of a guest, as its sysfs shows them."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from harness.errors import GuestFailure
from harness.guest import agent
from harness.guest.agent import Agent, Call
from harness.guest.config_space import ConfigSpace

_SYSFS = "/sys/bus/pci"
_BDF = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])")
_VIRTFN = re.compile(r"virtfn[0-9]{1,5}")
_RESOURCE = re.compile(r"0x([0-9a-f]{16}) 0x([0-9a-f]{16}) 0x([0-9a-f]{16})")
_MODE_DIGITS = 11
"""More than a mode_t of 32 bits has digits."""
IOV_RESOURCES = range(7, 13)
"""The lines of a PF's `resource`, from 0, that are windows for its VFs' BARs, behind six BARs and the ROM."""


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


@dataclass(frozen=True)
class Resource:
    """One line of `resource`: a range of addresses, its end included, and the kernel's IORESOURCE_* flags."""

    start: int
    end: int
    flags: int

    @property
    def size(self) -> int:
        """Bytes of the range; 0 where there is none."""
        return self.end - self.start + 1 if self.flags else 0


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
        self._do(self.writing(attribute, value))

    def reading(self, attribute: str) -> Call:
        """Give the call that reads an attribute, to be done with others or meanwhile."""
        return agent.read(f"{self.path}/{attribute}")

    def writing(self, attribute: str, value: str | bytes | int) -> Call:
        """Give the call that writes an attribute, to be done with others or meanwhile."""
        return agent.write(f"{self.path}/{attribute}", value if isinstance(value, bytes) else str(value).encode())

    def permissions(self, attribute: str) -> int:
        """Give an attribute's permissions, such as 0o644."""
        text = self._do(agent.mode(f"{self.path}/{attribute}")).decode("ascii", errors="replace")
        if not (text.isdecimal() and len(text) < _MODE_DIGITS):
            raise GuestFailure(f"{attribute} of {self.bdf} has permissions that are none: {text[:80]!r}")
        return int(text) & 0o7777

    def config(self, offset: int = 0, length: int = 4096) -> bytes:
        """Read configuration space; shorter than asked for where it ends."""
        return self._do(agent.read(f"{self.path}/config", offset, length))

    def write_config(self, offset: int, data: bytes) -> None:
        """Write to configuration space, behind the kernel's back."""
        self._do(agent.write(f"{self.path}/config", data, offset))

    @property
    def config_space(self) -> ConfigSpace:
        """Configuration space as it is now."""
        return ConfigSpace(self.config())

    @property
    def vendor(self) -> int:
        """Vendor ID; of a VF, that of its PF."""
        return self._number("vendor", 16)

    @property
    def device(self) -> int:
        """Device ID; of a VF, what its PF's VF Device ID says."""
        return self._number("device", 16)

    @property
    def class_code(self) -> int:
        """Class code: class << 16 | subclass << 8 | programming interface."""
        return self._number("class", 16)

    @property
    def resources(self) -> list[Resource]:
        """The lines of `resource`: six BARs, the ROM, and of a PF six windows for its VFs' BARs."""
        lines = self.read("resource").splitlines()
        found = [_RESOURCE.fullmatch(line) for line in lines]
        if not all(found):
            raise GuestFailure(f"resource of {self.bdf} has a line that is none: {lines[found.index(None)][:80]!r}")
        return [Resource(*(int(number, 16) for number in match.groups())) for match in found if match]

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
    def autoprobe(self) -> bool:
        """`sriov_drivers_autoprobe`: whether VFs meet their drivers when they are enabled."""
        return bool(self._number("sriov_drivers_autoprobe"))

    @autoprobe.setter
    def autoprobe(self, on: bool) -> None:
        self.write("sriov_drivers_autoprobe", int(on))

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
        return self.linked("physfn")

    def linked(self, name: str) -> Function | None:
        """Give the function that one of its links leads to; None without that link, while the function is there."""
        link = self._link(name)
        return None if link is None else Function(self._agent, _target(link))

    @property
    def iommu_group(self) -> str | None:
        """The number of its IOMMU group; None without one, while the function is there."""
        link = self._link("iommu_group")
        return None if link is None else _last_name(link)

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

    def remove(self) -> None:
        """Have the kernel let go of it, and of all that is below it."""
        self.write("remove", 1)

    def reset(self) -> None:
        """Reset it, by the first of its `reset_method` that works."""
        self.write("reset", 1)

    def rescan(self) -> None:
        """Have the kernel look again for what is on the bus below it."""
        self.write("rescan", 1)

    def _link(self, name: str) -> bytes | None:
        """Read one of its links; None without it. Raises `GuestErrno` (`ENOENT`) for a function that is gone."""
        link, itself = self._agent.batch([agent.link(f"{self.path}/{name}"), agent.link(self.path)])
        if link.errno == errno.ENOENT:
            itself.value()
            return None
        return link.value()

    def _number(self, attribute: str, base: int = 10) -> int:
        text = self.read(attribute)
        try:
            return int(text, base)
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
