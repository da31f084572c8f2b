# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration space as a guest reads it: what is in it, and what a hostile guest may say instead."""

from __future__ import annotations

import pytest

from harness.chain import Link
from harness.errors import GuestFailure
from harness.guest import config_space as pci
from harness.guest.config_space import ConfigSpace

AT = 0x160


def space(**words: int) -> ConfigSpace:
    """Make one with MSI-X, PCI Express, ARI and SR-IOV; `words` are further 16-bit values, by x and their offset."""
    data = bytearray(4096)
    given = {
        0x04: 0x0006, 0x06: 0x0010, 0x34: 0x40, 0x40: 0x5011, 0x50: 0x0010,
        0x100: pci.ARI, 0x102: AT << 4 | 1, AT: pci.SRIOV, AT + 2: 1,
        **{int(name.removeprefix("x"), 16): value for name, value in words.items()},
    }  # fmt: skip
    for at, value in given.items():
        data[at : at + 2] = value.to_bytes(2, "little")
    return ConfigSpace(bytes(data))


def test_both_lists_are_walked() -> None:
    config = space()
    assert config.capabilities == [Link(0x40, pci.MSIX, 0), Link(0x50, pci.EXPRESS, 0)]
    assert config.extended == [Link(0x100, pci.ARI, 1), Link(AT, pci.SRIOV, 1)]
    assert (config.capability(pci.EXPRESS), config.extended_capability(pci.SRIOV)) == (0x50, AT)
    assert (config.capability(0x05), config.extended_capability(0x0B)) == (None, None)
    assert config.command == pci.MEMORY_SPACE | pci.BUS_MASTER


def test_every_register_of_sr_iov_has_its_place() -> None:
    """By the offsets of include/uapi/linux/pci_regs.h, PCI_SRIOV_*."""
    places = {
        "control": 0x08, "status": 0x0A, "initial_vfs": 0x0C, "total_vfs": 0x0E, "num_vfs": 0x10,
        "first_vf_offset": 0x14, "vf_stride": 0x16, "vf_device_id": 0x1A,
    }  # fmt: skip
    values = {name: 0x1100 + number for number, name in enumerate(places)}
    words = {f"x{AT + places[name]:x}": value for name, value in values.items()}
    both = {f"x{AT + 4:x}": 1, f"x{AT + 0x12:x}": 0x0007, f"x{AT + 0x1C:x}": 0x553, f"x{AT + 0x20:x}": 1}
    bars = {f"x{AT + 0x24 + 4 * number:x}": 0x10 + number for number in range(6)}
    found = space(**words, **both, **bars).sriov
    assert {name: getattr(found, name) for name in values} == values
    assert (found.at, found.capabilities, found.dependency_link) == (AT, 1, 7)
    assert (found.supported_page_sizes, found.system_page_size) == (0x553, 1)
    assert found.vf_bars == (0x10, 0x11, 0x12, 0x13, 0x14, 0x15)


@pytest.mark.parametrize(
    ("control", "bits"),
    [(0x00, (False, False, False)), (0x01, (True, False, False)), (0x08, (False, True, False)),
     (0x10, (False, False, True)), (0x19, (True, True, True))],
)  # fmt: skip
def test_the_bits_of_its_control_have_names(control: int, bits: tuple[bool, bool, bool]) -> None:
    found = space(**{f"x{AT + 8:x}": control}).sriov
    assert (found.vf_enable, found.vf_mse, found.ari) == bits


def test_a_function_without_it_says_so() -> None:
    with pytest.raises(GuestFailure, match="has no SR-IOV capability"):
        _ = space(x102=1).sriov


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (ConfigSpace(b""), "configuration space of 0 bytes"),
        (ConfigSpace(bytes(64)), "configuration space of 64 bytes"),
        (space(x50=0x4010), "comes back to 0x40"),
        (space(x50=0x3010), "into the header"),
        (space(x162=0x1001), "comes back to 0x100"),
        (space(x162=0x0801), "below 0x100"),
    ],
)
def test_a_list_that_makes_no_sense_is_the_guests_fault(config: ConfigSpace, why: str) -> None:
    def walk() -> object:
        return config.capabilities, config.extended

    with pytest.raises(GuestFailure, match=why):
        walk()


def test_a_capability_that_leaves_configuration_space_is_the_guests_fault() -> None:
    data = bytearray(space(x102=0xFFC << 4 | 1).data)
    data[0xFFC:0x1000] = (pci.SRIOV | 1 << 16).to_bytes(4, "little")
    with pytest.raises(GuestFailure, match="at 0xffc leaves configuration space"):
        _ = ConfigSpace(bytes(data)).sriov


def test_what_lies_behind_the_end_cannot_be_read() -> None:
    with pytest.raises(GuestFailure, match="ends at 0x40, before 0x41"):
        ConfigSpace(bytes(64)).word(0x3F)
