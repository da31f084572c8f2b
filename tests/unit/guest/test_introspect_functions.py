# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading `struct pci_dev` of kernels with and without SIOV, whose bits say which of its pointers mean something."""

from __future__ import annotations

from dataclasses import fields

import pytest
from drgn import Object, Type
from kernel_memory import BASE, Memory

from harness.guest.introspect import functions
from harness.guest.introspect.failures import CannotIntrospect
from harness.guest.introspect.functions import PciFunction, Siov, Sriov
from harness.guest.pci import Bdf

DEV, OTHER, BUS, NAME, DRIVER, SRIOV, SIOV = (number << 12 for number in range(1, 8))
GARBAGE = 0xDEAD_0000_0000_0000
NUMBERS = ("vendor", "device", "devfn", "hdr_type", "is_physfn", "is_virtfn", "is_busmaster")


class Kernel(Memory):
    """A kernel with PCI functions at DEV and OTHER; `bits` are members that only kernels with SIOV have."""

    def __init__(self, *bits: str) -> None:
        super().__init__()
        counter = self.struct("counter", counter=self.u64)
        refs = self.struct("refs", refs=counter)
        kobj = self.struct("kobj", kref=self.struct("kref", refcount=refs), name=self.pointer)
        self.struct("device_driver", name=self.pointer)
        self.struct("pci_bus", number=self.u64)
        self.struct("pci_sriov", **dict.fromkeys((one.name for one in fields(Sriov)), self.u64))
        self.struct("pci_siov", pos=self.u64, total_SDIs=self.u64, dev=self.pointer)
        self.layout: dict[str, Type | str] = {
            **dict.fromkeys(NUMBERS, self.u64), **dict.fromkeys((bit for bit in bits if bit != "siov"), self.u64),
            "enable_cnt": counter, "dev": self.struct("device", kobj=kobj, driver="device_driver"),
            "bus": "pci_bus", "subordinate": "pci_bus", "sriov": "pci_sriov", "physfn": "pci_dev",
            **({"siov": "pci_siov"} if "siov" in bits else {}),
        }  # fmt: skip
        self.struct("pci_dev", **self.layout)
        self.put(BUS, 2)
        self.put(NAME, b"0000:02:00.1\0")
        self.put(DRIVER, BASE + NAME)
        for place, first in ((SRIOV, 100), (SIOV, 200)):
            self.put(place, b"".join((first + number).to_bytes(8, "little") for number in range(10)))

    def function(self, at: int = DEV, **members: int) -> PciFunction:
        """Write a function with these members, and read it as the kernel's."""
        values = {"bus": BASE + BUS, "devfn": 1, **members}
        kind = self.program.type("struct pci_dev")
        for name, value in values.items():
            self.put(at + kind.member(name).offset, value)
        self.put(at + kind.member("dev").offset, 9)
        self.put(at + kind.member("dev").offset + 8, BASE + NAME)
        self.put(at + kind.member("dev").offset + 16, BASE + DRIVER)
        return functions._function(Object(self.program, self.program.pointer_type(kind), BASE + at))


WITH_SIOV = ("is_sriov", "is_siov", "siov")


def test_a_kernel_without_siov_has_no_such_bits() -> None:
    found = Kernel().function(vendor=0x8086, device=0x10C9, is_busmaster=1, enable_cnt=3)
    assert (found.is_sriov, found.is_siov, found.siov, found.sriov, found.physfn) == (None, None, None, None, None)
    assert (found.bdf, found.name, found.vendor, found.device) == (Bdf(0, 2, 0, 1), "0000:02:00.1", 0x8086, 0x10C9)
    assert (found.references, found.enabled, found.is_busmaster, found.driver) == (9, 3, True, "0000:02:00.1")


def test_a_pf_of_a_kernel_without_siov_has_its_numbers_by_their_names() -> None:
    sriov = Kernel().function(is_physfn=1, sriov=BASE + SRIOV).sriov
    assert sriov == Sriov(100, 101, 102, 103, 104, 105, 106, 107, 108, 109)  # type: ignore[arg-type]  # made of numbers


def test_a_pf_with_siov_alone_has_no_sriov_whatever_that_pointer_holds() -> None:
    found = Kernel(*WITH_SIOV).function(is_physfn=1, is_sriov=0, is_siov=1, sriov=GARBAGE, siov=BASE + SIOV)
    assert (found.is_physfn, found.is_sriov, found.is_siov, found.sriov) == (True, False, True, None)
    assert found.siov == Siov({"pos": 200, "total_SDIs": 201, "dev": 202})
    assert found.siov_pointer == BASE + SIOV


def test_a_pf_with_both_has_both() -> None:
    found = Kernel(*WITH_SIOV).function(is_physfn=1, is_sriov=1, is_siov=1, sriov=BASE + SRIOV, siov=BASE + SIOV)
    assert found.sriov is not None
    assert found.siov is not None
    assert (found.sriov.pos, found.siov["pos"]) == (100, 200)


def test_a_pf_with_sriov_alone_has_no_siov_whatever_that_pointer_holds() -> None:
    found = Kernel(*WITH_SIOV).function(is_physfn=1, is_sriov=1, is_siov=0, sriov=BASE + SRIOV, siov=GARBAGE)
    assert (found.is_sriov, found.is_siov, found.siov) == (True, False, None)


@pytest.mark.parametrize("bits", [(), WITH_SIOV], ids=["without SIOV", "with SIOV"])
def test_a_vf_names_its_pf(bits: tuple[str, ...]) -> None:
    kernel = Kernel(*bits)
    kernel.function(OTHER, devfn=0)
    own = {"is_sriov": 1} if bits else {}
    found = kernel.function(is_virtfn=1, physfn=BASE + OTHER, **own)
    assert (found.is_virtfn, found.physfn, found.sriov) == (True, Bdf(0, 2, 0, 0), None)


def test_a_virtual_function_that_is_none_of_sriov_names_no_pf() -> None:
    found = Kernel(*WITH_SIOV).function(is_virtfn=1, is_sriov=0, is_siov=1, physfn=GARBAGE)
    assert (found.is_virtfn, found.physfn) == (True, None)


def test_a_kernel_whose_siov_has_other_members_is_no_fault_of_the_guest() -> None:
    kernel = Kernel(*WITH_SIOV)
    kernel.struct("pci_siov", total=kernel.u64)
    found = kernel.function(is_physfn=1, is_siov=1, siov=BASE + SIOV)
    assert found.siov is not None
    with pytest.raises(CannotIntrospect, match="struct pci_siov has no number total_SDIs, but total"):
        found.siov["total_SDIs"]
