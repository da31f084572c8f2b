# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernel function a write to sriov_numvfs ends in, seen by tracing the running kernel."""

from __future__ import annotations

from errno import EBUSY, ENOENT, ERANGE
from typing import Any

import pytest
from sriov_cases import OWN, SIMPLE, on

from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.guest.tracing import Traced, traced

CONFIGURE_SIMPLE = "pci_sriov_configure_simple"
CALLBACKS = {"igb": "igb_pci_sriov_configure", "virtio-pci": "virtio_pci_sriov_configure"}
"""drivers/net/ethernet/intel/igb/igb_main.c, drivers/virtio/virtio_pci_common.c"""
COUNT: dict[str, Any] = {"argument": 2, "result": True}
"""What is asked of each call: its second argument is a number, and so is what it returns."""

pytestmark = pytest.mark.usefixtures("shared_machine")


@pytest.mark.row("SR-29")
@on("nvme", "igb-stub", "virtio-stub")
def test_the_simple_callback_is_what_runs_and_gives_the_count(guest: Guest, pf: Function) -> None:
    with traced(guest, CONFIGURE_SIMPLE, **COUNT) as trace:
        pf.numvfs = 2
        pf.numvfs = 0
        assert trace.calls == [Traced(argument=2, result=2), Traced(argument=0, result=0)]


@pytest.mark.row("SR-22", "SR-24", "SR-27")
@on(*SIMPLE)
def test_it_does_not_run_for_what_is_refused_before(guest: Guest, pf: Function) -> None:
    pf.numvfs = 1
    with traced(guest, CONFIGURE_SIMPLE, **COUNT) as trace:
        with raises_errno(EBUSY):
            pf.numvfs = 2
        with raises_errno(ERANGE):
            pf.numvfs = pf.totalvfs + 1
        pf.numvfs = 1
        assert trace.calls == []


@pytest.mark.row("SR-25")
@on("nvme")
def test_it_does_not_run_without_a_driver(guest: Guest, pf: Function) -> None:
    pf.unbind()
    with traced(guest, CONFIGURE_SIMPLE, **COUNT) as trace:
        with raises_errno(ENOENT):
            pf.numvfs = 1
        assert trace.calls == []


@pytest.mark.row("SR-29")
@on(*OWN)
def test_a_driver_with_a_callback_of_its_own_runs_that_alone(guest: Guest, pf: Function) -> None:
    with traced(guest, CONFIGURE_SIMPLE, **COUNT) as simple, traced(guest, CALLBACKS[pf.driver or ""], **COUNT) as own:
        pf.numvfs = 2
        pf.numvfs = 0
        assert [call.argument for call in own.calls] == [2, 0]
        assert [call.result for call in own.calls] == [2, 0]
        assert simple.calls == []


@pytest.mark.row("SR-60")
@on("igb-stub")
def test_each_vf_is_added_once_by_its_index(guest: Guest, pf: Function) -> None:
    with traced(guest, "pci_iov_add_virtfn", **COUNT) as add:
        pf.numvfs = 3
        assert add.calls == [Traced(argument=number, result=0) for number in range(3)]
