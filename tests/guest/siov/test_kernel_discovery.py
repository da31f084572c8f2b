# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel with SIOV keeps of functions that have the capability: over what capabilities can and cannot say."""

from __future__ import annotations

import pytest
from siov_cases import declare, kept, sriov_attributes, the_capability
from siov_model import Sdis

from harness.device.device import CONFIG
from harness.device.siov import SiovDevice
from harness.guest.guest import Guest
from harness.guest.introspect.state import KernelState
from harness.guest.pci import Function

pytestmark = pytest.mark.needs_kernel("PCI_SIOV")

ACTIVE = "SIOV: SDIs active at init, FLR may be required"
"""Which the kernel says of a function whose SIOV Status has bit 0 set when it is found."""
FITTING = [
    Sdis(1, 1, 0), Sdis(1, 1, 1), Sdis(4, 8, 8), Sdis(255, 1, 1), Sdis(256, 1, 1), Sdis(512, 0x100, 1),
    Sdis(2, 0x8000, 0x100), Sdis(0x100, 0x100, 0x80), Sdis(0xFE00, 1, 1),
    # up to ff:1f.7, for a PF on bus 1:
    Sdis(1, 0xFEFF, 0xFFFF), Sdis(2, 1, 0xFEFE), Sdis(0xFEFF, 1, 1), Sdis(0xFE, 0x100, 0x100),
]  # fmt: skip
UNFIT = [
    Sdis(0, 1, 1), Sdis(0, 0, 0), Sdis(0, 0xFFFF, 0xFFFF),
    Sdis(1, 0, 0), Sdis(1, 0, 1), Sdis(2, 0, 1), Sdis(2, 1, 0), Sdis(0xFFFF, 1, 0),
    Sdis(1, 0xFF00, 0), Sdis(2, 1, 0xFEFF), Sdis(0xFF00, 1, 1), Sdis(0xFFFF, 1, 1), Sdis(0xFFFF, 0xFFFF, 0xFFFF),
    Sdis(0x101, 0x100, 0x100), Sdis(3, 0x8000, 0x8000), Sdis(0x8000, 0xFFFF, 2), Sdis(1, 0xFFFF, 0xFFFF),
]  # fmt: skip
"""SDIs that a PF on bus 1 has not, or that cannot be told apart, or whose routing IDs 16 bits do not hold."""


def named(sdis: Sdis) -> str:
    return "-".join(f"{number:x}" for number in sdis)


@pytest.mark.row("SI-01", "SI-02")
@pytest.mark.machine("siov")
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize("sdis", FITTING, ids=named)
def test_a_function_with_sdis_is_a_pf_by_siov_alone(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState, sdis: Sdis
) -> None:
    assert sdis.are_numbered(pf.bdf.routing_id)
    declare(guest, pf, device, sdis)
    found = kept(introspection, pf)
    assert (found.is_physfn, found.is_virtfn, found.is_sriov, found.is_siov) == (True, False, False, True)
    assert found.siov is not None
    assert [found.siov[name] for name in ("total_SDIs", "offset", "stride")] == [*sdis]
    assert found.siov["pos"] == device.config.register("siov_header").offset
    assert sriov_attributes(pf) == set()


@pytest.mark.row("SI-04", "SI-07", "SI-08")
@pytest.mark.machine("siov")
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize("sdis", UNFIT, ids=named)
def test_a_function_whose_sdis_cannot_be_numbered_is_no_pf(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState, sdis: Sdis
) -> None:
    assert not sdis.are_numbered(pf.bdf.routing_id)
    declare(guest, pf, device, sdis)
    found = kept(introspection, pf)
    assert (found.is_physfn, found.is_sriov, found.is_siov, found.siov_pointer) == (False, False, False, 0)
    assert pf.exists


@pytest.mark.row("SI-05", "SI-06")
@pytest.mark.machine("siov")
@pytest.mark.usefixtures("shared_machine")
@pytest.mark.parametrize("total", [4, 0])
@pytest.mark.parametrize("status", [0x00, 0x01, 0x02, 0x80, 0xFE, 0xFF], ids=hex)
def test_the_kernel_warns_of_sdis_that_are_active_when_it_finds_them(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState, status: int, total: int
) -> None:
    mark = guest.log_mark()
    declare(guest, pf, device, Sdis(total, 1, 1), status)
    said = [line for line in guest.messages(mark) if ACTIVE in line]
    assert [str(pf.bdf) in line for line in said] == [True] * (status & 1)
    assert kept(introspection, pf).is_siov == (total > 0)


@pytest.mark.row("SI-01")
@pytest.mark.machine("siov", siov_capabilities=0xFFFFFFFF)
@pytest.mark.machine("siov", siov_capabilities=0x12345678)
def test_bits_that_are_not_public_are_kept_as_they_are(pf: Function, introspection: KernelState) -> None:
    siov = kept(introspection, pf).siov
    assert siov is not None
    assert siov["cap"] == the_capability(pf).capabilities


@pytest.mark.row("SI-01")
@pytest.mark.machine("siov", place="first")
@pytest.mark.machine("siov", place="last")
@pytest.mark.machine("siov", all_ones_header=True)
@pytest.mark.machine("siov", intel_dvsec=True)
def test_the_capability_counts_wherever_in_the_chain_it_stands(
    pf: Function, device: SiovDevice, introspection: KernelState
) -> None:
    found = kept(introspection, pf)
    assert (found.is_siov, found.siov and found.siov["pos"]) == (True, device.config.register("siov_header").offset)


@pytest.mark.row("SI-09")
@pytest.mark.machine("siov", siov=False)
@pytest.mark.machine("siov", siov=False, intel_dvsec=True)
@pytest.mark.machine("siov-pci-bridge")
def test_without_a_capability_in_reach_a_function_is_no_pf(pf: Function, introspection: KernelState) -> None:
    found = kept(introspection, pf)
    assert (found.is_physfn, found.is_siov, found.siov_pointer) == (False, False, 0)


@pytest.mark.machine("siov")
@pytest.mark.usefixtures("shared_machine")
def test_a_capability_that_answers_with_all_ones_is_none(
    guest: Guest, pf: Function, device: SiovDevice, introspection: KernelState
) -> None:
    """As where the device goes between two reads: not a word of its status is to be believed."""
    at = device.config.register("siov_header").offset
    mark = guest.log_mark()
    with device.faults.wrong_value(CONFIG, at + 4, (1 << 96) - 1, 12) as fault:
        declare(guest, pf, device, Sdis(4, 1, 1))
    assert fault.happened
    found = kept(introspection, pf)
    assert (found.is_physfn, found.is_siov, found.siov_pointer) == (False, False, 0)
    assert not [line for line in guest.messages(mark) if ACTIVE in line]


@pytest.mark.row("SI-26")
@pytest.mark.machine("siov-rciep", total_sdis=300)
def test_an_integrated_endpoint_has_sdis_too(pf: Function, introspection: KernelState) -> None:
    assert pf.bdf.bus == 0
    siov = kept(introspection, pf).siov
    assert siov is not None
    assert siov["total_SDIs"] == 300


@pytest.mark.machine("siov-pxb", total_sdis=0x7E00)
@pytest.mark.machine("siov-pxb", total_sdis=0x7E00, first_sdi_offset=0x100)
@pytest.mark.machine("siov-pxb", bus_nr=254, total_sdis=255)
@pytest.mark.machine("siov-pxb", bus_nr=254, total_sdis=256)
@pytest.mark.machine("siov-pxb", bus_nr=254, first_sdi_offset=256)
def test_what_16_bits_hold_depends_on_the_bus(pf: Function, device: SiovDevice, introspection: KernelState) -> None:
    sdis = Sdis(device.total_sdis, device.first_sdi_offset, device.sdi_stride)
    assert pf.bdf.bus >= 0x80
    assert kept(introspection, pf).is_siov == sdis.are_numbered(pf.bdf.routing_id)


@pytest.mark.row("SI-02")
@pytest.mark.machine("nvme-sriov")
@pytest.mark.machine("igb-sriov")
def test_functions_with_sriov_are_told_from_those_with_siov(pf: Function, introspection: KernelState) -> None:
    def bits() -> dict[str, tuple[bool, bool, bool | None, bool | None]]:
        functions = introspection.functions()
        return {str(one.bdf): (one.is_physfn, one.is_virtfn, one.is_sriov, one.is_siov) for one in functions}

    before = bits()
    assert before.pop(str(pf.bdf)) == (True, False, True, False)
    assert set(before.values()) == {(False, False, False, False)}
    pf.numvfs = 2
    during = bits()
    assert [during[str(vf.bdf)] for vf in pf.vfs] == [(False, True, True, False)] * 2
    pf.numvfs = 0
    assert bits() == {**before, str(pf.bdf): (True, False, True, False)}
