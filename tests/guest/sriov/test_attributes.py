# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions have which sriov_* attributes, and what they say (sriov_pf_attrs_are_visible, drivers/pci/iov.c)."""

from __future__ import annotations

import re
from errno import EACCES

import pytest
from sriov_cases import DRIVERS, STUB, hand_over, on

from harness.guest.agent import raises_errno
from harness.guest.config_space import SRIOV
from harness.guest.guest import Guest
from harness.guest.pci import IOV_RESOURCES, Function

pytestmark = pytest.mark.usefixtures("shared_machine")

PF_ATTRIBUTES = {
    "sriov_totalvfs", "sriov_numvfs", "sriov_offset", "sriov_stride", "sriov_vf_device", "sriov_drivers_autoprobe",
    "sriov_vf_total_msix",
}  # fmt: skip
VF_ATTRIBUTE = "sriov_vf_msix_count"
WRITE_ONLY = 0o200
PAGE_4K = 1


@pytest.mark.row("SR-01", "SR-02")
@on(*DRIVERS)
def test_a_pf_has_every_sriov_attribute(pf: Function) -> None:
    attributes = pf.attributes()
    assert attributes >= PF_ATTRIBUTES
    assert VF_ATTRIBUTE not in attributes


@pytest.mark.row("SR-01", "SR-02")
@on(*DRIVERS)
def test_no_other_function_has_an_sriov_attribute(guest: Guest, pf: Function) -> None:
    others = [function for function in guest.functions() if function != pf]
    assert others
    known = PF_ATTRIBUTES | {VF_ATTRIBUTE}
    assert {str(one.bdf): sorted(known & one.attributes()) for one in others} == {str(one.bdf): [] for one in others}


@pytest.mark.row("SR-01", "SR-02")
@on(*DRIVERS)
def test_a_vf_has_the_msix_attribute_of_vfs_and_none_of_a_pf(pf: Function) -> None:
    pf.numvfs = 1
    (vf,) = pf.vfs
    attributes = vf.attributes()
    assert not PF_ATTRIBUTES & attributes
    assert VF_ATTRIBUTE in attributes
    assert vf.permissions(VF_ATTRIBUTE) == WRITE_ONLY
    with raises_errno(EACCES):
        vf.read(VF_ATTRIBUTE)


@pytest.mark.row("SR-03")
@on("igb")
def test_a_driver_lowers_totalvfs_for_as_long_as_it_is_bound(pf: Function) -> None:
    assert (pf.config_space.sriov.total_vfs, pf.totalvfs) == (8, 7)  # igb_probe_vfs, igb_main.c
    pf.unbind()
    assert pf.totalvfs == 8
    pf.bind("igb")
    assert pf.totalvfs == 7


@pytest.mark.row("SR-04")
@on(*DRIVERS)
def test_the_attributes_say_what_the_capability_does(pf: Function) -> None:
    capability = pf.config_space.sriov
    assert pf.read("sriov_offset") == f"{capability.first_vf_offset}"
    assert pf.read("sriov_stride") == f"{capability.vf_stride}"
    assert pf.read("sriov_vf_device") == f"{capability.vf_device_id:x}"


@pytest.mark.row("SR-03")
@on("nvme", "nvme-stub", "igb-stub", "virtio")
def test_totalvfs_is_that_of_the_capability_where_no_driver_lowers_it(pf: Function) -> None:
    assert pf.totalvfs == pf.config_space.sriov.total_vfs


@pytest.mark.row("SR-08")
@on(*DRIVERS)
def test_the_system_page_size_is_the_least_that_both_sides_know(pf: Function) -> None:
    capability = pf.config_space.sriov
    assert capability.supported_page_sizes & PAGE_4K
    assert capability.system_page_size == PAGE_4K


@pytest.mark.row("SR-11")
@on(*DRIVERS)
def test_the_kernel_says_how_large_the_windows_of_the_vfs_are(guest: Guest, pf: Function) -> None:
    log = guest.run("dmesg", check=True).stdout
    found = re.findall(rf"{pf.bdf}: VF BAR (\d) \[mem .*?\]: contains BAR \1 for (\d+) VFs", log)
    windows = [number for number, line in enumerate(IOV_RESOURCES) if pf.resources[line].size]
    assert windows
    assert sorted(set(found)) == [(str(number), str(pf.config_space.sriov.total_vfs)) for number in windows]


@pytest.mark.row("SR-12")
@on(*DRIVERS)
def test_the_bars_of_vfs_divide_the_windows_of_their_pf(pf: Function) -> None:
    windows = [pf.resources[line] for line in IOV_RESOURCES]
    pf.numvfs = 2
    bars = [vf.resources[:6] for vf in pf.vfs]
    total = pf.config_space.sriov.total_vfs
    sizes = [window.size // total for window in windows]
    assert any(sizes)
    assert [[bar.size for bar in of_one] for of_one in bars] == [sizes, sizes]
    for number, of_one in enumerate(bars):
        for bar, window, size in zip(of_one, windows, sizes, strict=True):
            assert not size or bar.start == window.start + number * size


@pytest.mark.row("SR-14")
@on(*DRIVERS)
def test_a_vf_has_no_legacy_interrupt_whatever_its_pin_register_says(pf: Function) -> None:
    """pci_read_irq() (drivers/pci/probe.c) does not ask a VF; QEMU's virtio VFs would name a pin."""
    pf.numvfs = 1
    assert [vf.read("irq") for vf in pf.vfs] == ["0"]


@pytest.mark.row("SR-15")
@on(*DRIVERS)
def test_a_vf_lies_beside_its_pf_and_the_two_name_each_other(pf: Function) -> None:
    pf.numvfs = 2
    vfs = pf.vfs
    assert sorted(name for name in pf.attributes() if name.startswith("virtfn")) == ["virtfn0", "virtfn1"]
    assert [vf.physfn for vf in vfs] == [pf, pf]
    assert pf.physfn is None
    assert [vf.upstream for vf in vfs] == [pf.upstream, pf.upstream]
    pf.numvfs = 0
    assert not any(name.startswith("virtfn") for name in pf.attributes())


@pytest.mark.row("SR-16")
@on("nvme", "igb", "virtio", "igb-stub")
def test_without_a_callback_no_msix_vectors_are_to_be_given_to_vfs(pf: Function) -> None:
    assert pf.read("sriov_vf_total_msix") == "0"


@pytest.mark.row("SR-01")
@on("igb")
def test_the_capability_is_found_whoever_drives_the_pf(guest: Guest, pf: Function) -> None:
    before = pf.attributes() & PF_ATTRIBUTES
    hand_over(guest, pf, STUB)
    assert pf.attributes() & PF_ATTRIBUTES == before
    assert SRIOV in [link.id for link in pf.config_space.extended]
