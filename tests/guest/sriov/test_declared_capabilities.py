# SPDX-License-Identifier: GPL-2.0-or-later
"""SR-IOV capabilities that no model of QEMU's has: a device in Python declares them, whose VFs never appear."""

from __future__ import annotations

from collections.abc import Callable
from errno import EIO, ENOMEM

import pytest
from sriov_cases import STUB, hand_over, is_pf, said

from harness.device.device import CONFIG
from harness.device.siov import SiovDevice
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function

pytestmark = [
    pytest.mark.machine("siov", siov=False, total_vfs=16, first_vf_offset=2, vf_stride=3),
    pytest.mark.usefixtures("shared_machine"),
]

SOUND = {
    "sriov_total_vfs": 16, "sriov_initial_vfs": 16, "sriov_first_vf_offset": 2, "sriov_vf_stride": 3,
    "sriov_supported_page_sizes": 0x553, "sriov_num_vfs": 0,
}  # fmt: skip
Found = Callable[..., Function]


@pytest.fixture
def found(guest: Guest, pf: Function, device: SiovDevice) -> Found:
    """Has the kernel find the function anew, whose capability is sound but for the registers that are given."""

    def find(**registers: int) -> Function:
        pf.remove()
        device.show_sriov()
        for name, value in {**SOUND, **registers}.items():
            device.config[name] = value
        guest.rescan()
        return pf

    return find


def test_a_capability_that_is_sound_makes_a_pf(found: Found) -> None:
    pf = found()
    assert (pf.totalvfs, pf.numvfs, pf.offset, pf.stride) == (16, 0, 2, 3)


@pytest.mark.row("SR-06")
def test_without_any_vf_a_function_is_no_pf_and_nobody_complains(guest: Guest, found: Found) -> None:
    mark = guest.log_mark()
    pf = found(sriov_total_vfs=0)
    assert pf.exists
    assert not is_pf(pf)
    assert not said(guest, mark, f"{pf.bdf}: VF")


@pytest.mark.row("SR-07")
def test_without_a_page_size_of_the_kernels_a_function_is_no_pf(found: Found) -> None:
    assert not is_pf(found(sriov_supported_page_sizes=0))


@pytest.mark.row("SR-10")
@pytest.mark.parametrize(
    ("total", "offset", "stride", "is_sound"),
    [(16, 0, 3, False), (16, 2, 0, False), (1, 0, 0, False), (1, 2, 0, True), (2, 2, 0, False)],
)
def test_vfs_must_have_routing_ids_of_their_own(
    found: Found, total: int, offset: int, stride: int, is_sound: bool
) -> None:
    pf = found(
        sriov_total_vfs=total, sriov_initial_vfs=total, sriov_first_vf_offset=offset, sriov_vf_stride=stride
    )  # fmt: skip
    assert is_pf(pf) == is_sound


@pytest.mark.row("SR-05")
def test_offset_and_stride_are_read_anew_after_each_write_of_the_number(found: Found, device: SiovDevice) -> None:
    config = device.config
    at = config.register("sriov_num_vfs").offset
    since = device.log.mark()
    found()
    accesses = [
        (one.kind.name, one.offset - at) for one in device.log.entries(since=since)
        if one.region == CONFIG and one.offset - at in (0, 4, 6)
    ]  # fmt: skip
    writes = [number for number, access in enumerate(accesses) if access == ("WRITE", 0)]
    assert len(writes) == 17  # from TotalVFs down to none
    for number in writes:
        assert accesses[number + 1 : number + 3] == [("READ", 4), ("READ", 6)]


@pytest.mark.row("SR-34")
@pytest.mark.parametrize("initial", [0, 15, 17])
def test_vfs_cannot_be_enabled_where_initial_and_total_differ(guest: Guest, found: Found, initial: int) -> None:
    """For VF Migration is no capability of this device: nothing could change InitialVFs."""
    pf = found(sriov_initial_vfs=initial)
    hand_over(guest, pf, STUB)
    with raises_errno(EIO):
        pf.numvfs = 1
    assert (pf.numvfs, pf.vfs) == (0, [])


@pytest.mark.row("SR-37")
def test_vfs_cannot_be_enabled_on_a_bus_that_is_not_their_bridges(guest: Guest, found: Found) -> None:
    pf = found(sriov_first_vf_offset=0x100, sriov_vf_stride=1)
    hand_over(guest, pf, STUB)
    mark = guest.log_mark()
    with raises_errno(ENOMEM):
        pf.numvfs = 3
    bus = f"{pf.bdf.bus + 1:02x}"
    assert said(guest, mark, f"{pf.bdf}: can't enable 3 VFs (bus {bus} out of range of [bus {pf.bdf.bus:02x}])")
    assert (pf.numvfs, pf.vfs, pf.config_space.sriov.vf_enable) == (0, [], False)
