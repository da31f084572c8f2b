# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions have which sriov_* attributes, and what they say (sriov_pf_attrs_are_visible, drivers/pci/iov.c)."""

from __future__ import annotations

import pytest

from harness.guest.guest import Guest
from harness.guest.pci import Function

pytestmark = [
    pytest.mark.machine("nvme-sriov"),
    pytest.mark.machine("igb-sriov"),
    pytest.mark.machine("virtio-sriov"),
]

PF_ATTRIBUTES = {
    "sriov_totalvfs", "sriov_numvfs", "sriov_offset", "sriov_stride", "sriov_vf_device", "sriov_drivers_autoprobe",
    "sriov_vf_total_msix",
}  # fmt: skip
EXT_CAP_SRIOV = 0x10  # PCI_EXT_CAP_ID_SRIOV, include/uapi/linux/pci_regs.h


@pytest.mark.usefixtures("shared_machine")
def test_a_pf_has_every_sriov_attribute(pf: Function) -> None:
    assert pf.attributes() >= PF_ATTRIBUTES


@pytest.mark.usefixtures("shared_machine")
def test_no_other_function_has_an_sriov_attribute(guest: Guest, pf: Function) -> None:
    others = [function for function in guest.functions() if function != pf]
    assert others
    assert {str(one.bdf): sorted(PF_ATTRIBUTES & one.attributes()) for one in others} == {
        str(one.bdf): [] for one in others
    }


def test_a_vf_has_the_msix_attribute_of_vfs_and_none_of_a_pf(pf: Function) -> None:
    pf.numvfs = 1
    (vf,) = pf.vfs
    assert "sriov_vf_msix_count" in vf.attributes()
    assert not PF_ATTRIBUTES & vf.attributes()


@pytest.mark.usefixtures("shared_machine")
def test_offset_and_stride_are_those_of_the_capability(pf: Function) -> None:
    capability = sriov_capability(pf)
    assert pf.offset == int.from_bytes(capability[0x14:0x16], "little")
    assert pf.stride == int.from_bytes(capability[0x16:0x18], "little")


@pytest.mark.usefixtures("shared_machine")
def test_no_vf_is_enabled_at_boot(pf: Function) -> None:
    assert pf.numvfs == 0
    assert pf.vfs == []


def sriov_capability(function: Function) -> bytes:
    """Give the 64 bytes of the SR-IOV extended capability, found by walking the list from offset 0x100."""
    config = function.config()
    assert len(config) == 4096
    offset = 0x100
    while offset:
        header = int.from_bytes(config[offset : offset + 4], "little")
        if header & 0xFFFF == EXT_CAP_SRIOV:
            return config[offset : offset + 0x40]
        offset = header >> 20
    raise AssertionError(f"{function.bdf} has no SR-IOV capability")
