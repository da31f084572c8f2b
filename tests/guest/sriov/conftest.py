# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the SR-IOV suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from sriov_cases import STUB, VF_DRIVERS, need, settle

from harness.guest.guest import Guest
from harness.guest.pci import Function


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the cases of one PF and driver together in each module: a machine that they share changes drivers less."""
    folder = Path(__file__).parent
    ours = [number for number, item in enumerate(items) if item.path.parent == folder]
    modules = {path: number for number, path in reversed([*enumerate(items[at].path for at in ours)])}
    ordered = sorted((items[at] for at in ours), key=lambda item: (modules[item.path], _case(item)))
    for at, item in zip(ours, ordered, strict=True):
        items[at] = item


def _case(item: pytest.Item) -> str:
    return item.name.rpartition("[")[2]


@pytest.fixture
def pf(request: pytest.FixtureRequest, guest: Guest, pf: Function) -> Function:
    """The first PF of the test's machine, under the driver that `on` says, with no VFs, which meet their drivers.

    So on a shared machine, too, whatever the test before left.
    """
    driver = getattr(request, "param", None)
    if driver is not None:
        settle(guest, pf, driver)
    return pf


@pytest.fixture
def vf_driver(guest: Guest, pf: Function) -> str:
    """The driver that the VFs of the PF meet, loaded."""
    driver = VF_DRIVERS[pf.driver or ""]
    need(guest, driver)
    return driver


@pytest.fixture
def stubs(guest: Guest, pfs: list[Function]) -> list[Function]:
    """All PFs under pci-pf-stub, whose sriov_configure is pci_sriov_configure_simple(), with no VFs."""
    for one in pfs:
        settle(guest, one, STUB)
    return pfs


@pytest.fixture
def stub(stubs: list[Function]) -> Function:
    """The first of them."""
    return stubs[0]
