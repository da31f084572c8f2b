# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function each PF driver registers as `sriov_configure`, read from the driver structures of the running kernel.

QEMU has no model of ena: that its driver is wired up, and to which function, is all that can be shown of it today. The
others are wired up here, and seen at work in test_numvfs.py and test_pf_stub.py.
"""

from __future__ import annotations

import pytest

from harness.guest.guest import Guest
from harness.guest.introspect.state import KernelState
from harness.machine.machine import Machine

pytestmark = [
    pytest.mark.machine("minimal"),
    pytest.mark.usefixtures("shared_machine"),
    pytest.mark.row("SR-69"),
]

SIMPLE = "pci_sriov_configure_simple"
"""The kernel's own, for drivers that need do nothing but pci_enable_sriov() (drivers/pci/iov.c)."""
OF_MODULES = "a module's functions have no names here: the debug information is that of the kernel alone"


OPTIONS = {
    "nvme": "BLK_DEV_NVME", "ena": "ENA_ETHERNET", "pci-pf-stub": "PCI_PF_STUB", "igb": "IGB",
    "virtio-pci": "VIRTIO_PCI", "pcieport": "PCIEPORTBUS",
}  # fmt: skip
"""What a kernel is configured with where it has these drivers."""


@pytest.fixture
def registered(machine: Machine, guest: Guest, introspection: KernelState, driver: str) -> str | None:
    """What the driver has registered, loaded first where it is a module."""
    kernel = machine.spec.parts.kernel
    if kernel.missing(frozenset({OPTIONS[driver]})):
        pytest.skip(f"kernel {kernel.name} was configured without CONFIG_{OPTIONS[driver]}")
    if driver not in {one.name for one in introspection.drivers()}:
        guest.run(["modprobe", driver], check=True)
    return introspection.sriov_configure(driver)


@pytest.mark.parametrize("driver", ["nvme", "ena", "pci-pf-stub"])
def test_a_driver_that_need_do_nothing_itself_registers_the_simple_function(registered: str | None) -> None:
    assert registered == SIMPLE


@pytest.mark.parametrize(
    ("driver", "own"),
    [
        ("igb", "igb_pci_sriov_configure"),  # drivers/net/ethernet/intel/igb/igb_main.c
        ("virtio-pci", "virtio_pci_sriov_configure"),  # drivers/virtio/virtio_pci_common.c
    ],
)
def test_a_driver_with_work_of_its_own_registers_its_own_function(
    introspection: KernelState, registered: str | None, driver: str, own: str
) -> None:
    (found,) = [one for one in introspection.drivers() if one.name == driver]
    if found.module is not None and found.sriov_configure is not None and found.sriov_configure.startswith("0x"):
        pytest.skip(OF_MODULES)
    assert registered == own


@pytest.mark.parametrize("driver", ["pcieport"])
def test_a_driver_that_knows_nothing_of_vfs_registers_none(registered: str | None) -> None:
    assert registered is None
