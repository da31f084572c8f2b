# SPDX-License-Identifier: GPL-2.0-or-later
"""Overlays of functions that come and go, and overlays that go before their functions do."""

from __future__ import annotations

import pytest
from sriov_cases import STUB, hand_over

from harness.errors import UsageError
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.machine.machine import Machine

pytestmark = [pytest.mark.machine("igb-sriov"), pytest.mark.needs_overlay]

OTHER = 0xFFFE
"""A device ID that no driver looks for."""


def test_a_device_that_comes_back_is_overlaid_again(machine: Machine, pf: Function) -> None:
    overlay = machine.overlay("igb0")
    overlay.config["device_id"] = OTHER
    for _ in range(2):
        machine.unplug("igb0")
        assert not overlay.is_attached
        machine.plug("igb0")
        assert overlay.is_attached
        assert (pf.device, pf.driver) == (OTHER, None)


def test_vfs_of_a_device_that_comes_back_are_overlaid_again(machine: Machine, guest: Guest, pf: Function) -> None:
    overlay = machine.overlay("igb0", vf=1)
    overlay.config["class_code"] = 0x088000
    machine.unplug("igb0")
    machine.plug("igb0")
    hand_over(guest, pf, STUB)
    pf.numvfs = 2
    assert [vf.config_space.word(0x0A) for vf in pf.vfs] == [0x0200, 0x0880]
    pf.numvfs = 0


def test_without_its_overlay_a_function_is_what_it_was(machine: Machine, guest: Guest, pf: Function) -> None:
    own = pf.config(0, 4)
    machine.overlay("igb0").config["device_id"] = OTHER
    machine.overlay("igb0", vf=0).config["class_code"] = 0x088000
    assert pf.config(0, 4) != own
    for name in ("overlay-igb0", "overlay-igb0-vf0"):
        machine.qmp.execute("object-del", id=name)
    assert pf.config(0, 4) == own
    hand_over(guest, pf, STUB)
    pf.numvfs = 1
    assert pf.vfs[0].config_space.word(0x0A) == 0x0200
    pf.numvfs = 0
    machine.unplug("igb0")


@pytest.mark.parametrize(
    ("device", "vf", "says"),
    [("igbO", None, "no PCI device 'igbO'"), ("igb0", 8, "no VF 8 of a PF 'igb0'"), ("net1", None, "no PCI device"),
     ("rp2", 0, "no VF 0 of a PF 'rp2'")],
    ids=["unknown", "no-such-vf", "no-device", "no-pf"],
)  # fmt: skip
def test_what_is_no_function_is_told(machine: Machine, device: str, vf: int | None, says: str) -> None:
    with pytest.raises(UsageError, match=f"QEMU has {says}.*: nothing can be laid over it"):
        machine.overlay(device, vf=vf)
