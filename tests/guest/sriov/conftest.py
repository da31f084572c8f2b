# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the SR-IOV suite."""

from __future__ import annotations

import pytest
from sriov_cases import STUB, hand_over

from harness.guest.guest import Guest
from harness.guest.pci import Function


@pytest.fixture
def pf(request: pytest.FixtureRequest, guest: Guest, pf: Function) -> Function:
    """The first PF of the test's machine, under the driver that `on` says, with no VFs.

    On a shared machine that a test left with VFs, or with another driver, both are set right.
    """
    driver = getattr(request, "param", None)
    if driver is not None:
        if pf.numvfs:
            pf.numvfs = 0
        hand_over(guest, pf, driver)
    return pf


@pytest.fixture
def stubs(guest: Guest, pfs: list[Function]) -> list[Function]:
    """All PFs, handed over to pci-pf-stub, whose sriov_configure is the kernel's pci_sriov_configure_simple()."""
    for one in pfs:
        hand_over(guest, one, STUB)
    return pfs


@pytest.fixture
def stub(stubs: list[Function]) -> Function:
    """The first of them."""
    return stubs[0]
