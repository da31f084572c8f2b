# SPDX-License-Identifier: GPL-2.0-or-later
"""VFs that are assigned to a guest keep their PF from changing its number of VFs (pci_vfs_assigned, drivers/pci/iov.c).

Of the kernel's own drivers only xen-pciback marks functions as assigned: here the module iov-assign does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import EBUSY, EEXIST, ENODEV, EPERM

import pytest
from sriov_cases import on, said

from harness.guest.agent import GuestErrno, raises_errno
from harness.guest.guest import Guest
from harness.guest.module import Module
from harness.guest.pci import Function
from harness.pytest_plugin.fixtures import LoadModule

Assign = Callable[[Function], Module]
"""Marks a function as assigned, until the module that it gives is unloaded."""

REFUSAL = "Cannot modify SR-IOV while VFs are assigned"  # pci_sriov_configure_simple
REFUSAL_OF_IGB = "Cannot deallocate SR-IOV virtual functions while they are assigned"  # igb_disable_sriov


@pytest.fixture
def assign(guest_module: LoadModule) -> Iterator[Assign]:
    """Marks functions as assigned, one at a time, as long as the test lasts."""
    assignments = []

    def assign_one(function: Function) -> Module:
        assignments.append(guest_module("iov-assign", function=str(function.bdf)))
        return assignments[-1]

    yield assign_one
    for assignment in assignments:
        with suppress(GuestErrno):  # the test may have done so
            assignment.unload()


@pytest.mark.row("SR-32")
@pytest.mark.machine("igb-sriov")
@pytest.mark.machine("nvme-sriov")
@pytest.mark.usefixtures("shared_machine")
def test_vfs_stay_as_long_as_one_of_them_is_assigned(guest: Guest, stub: Function, assign: Assign) -> None:
    stub.numvfs = 2
    vfs = stub.vfs
    assignment = assign(vfs[1])
    mark = guest.log_mark()
    with raises_errno(EPERM):
        stub.numvfs = 0
    assert said(guest, mark, REFUSAL)
    assert (stub.numvfs, stub.vfs) == (2, vfs)
    assignment.unload()
    stub.numvfs = 0
    assert (stub.numvfs, stub.vfs) == (0, [])


@pytest.mark.row("SR-27", "SR-32")
@pytest.mark.machine("igb-sriov")
@pytest.mark.usefixtures("shared_machine")
def test_the_count_is_looked_at_before_any_assignment(stub: Function, assign: Assign) -> None:
    stub.numvfs = 2
    assign(stub.vfs[0])
    with raises_errno(EBUSY):
        stub.numvfs = 3
    stub.numvfs = 2
    assert len(stub.vfs) == 2


@pytest.mark.row("SR-79")
@on("igb")
@pytest.mark.usefixtures("shared_machine")
def test_igb_keeps_assigned_vfs_too(guest: Guest, pf: Function, assign: Assign) -> None:
    pf.numvfs = 1
    assign(pf.vfs[0])
    mark = guest.log_mark()
    with raises_errno(EPERM):
        pf.numvfs = 0
    assert said(guest, mark, REFUSAL_OF_IGB)
    assert len(pf.vfs) == 1


@pytest.mark.row("SR-33")
@pytest.mark.machine("igb-two")
def test_an_assigned_vf_of_another_pf_does_not_count(stubs: list[Function], assign: Assign) -> None:
    one, other = stubs
    one.numvfs = other.numvfs = 2
    assign(other.vfs[0])
    one.numvfs = 0
    assert one.vfs == []
    one.numvfs = 3
    assert len(one.vfs) == 3
    with raises_errno(EPERM):
        other.numvfs = 0


@pytest.mark.row("SR-32")
@pytest.mark.machine("igb-sriov")
def test_no_vfs_are_enabled_either_while_one_is_assigned(
    guest: Guest, pf: Function, guest_module: LoadModule, assign: Assign
) -> None:
    """Only a driver can ask for that: whoever writes another count is told EBUSY before. This one asks when all go."""
    guest_module("iov-pf", answer="anew")
    pf.override("iov-pf")
    pf.numvfs = 2
    assign(pf.vfs[0])
    mark = guest.log_mark()
    with raises_errno(EPERM):
        pf.numvfs = 0
    assert said(guest, mark, REFUSAL)
    assert len(pf.vfs) == 2


@pytest.mark.row("SR-33")
@pytest.mark.machine("igb-sriov")
@pytest.mark.usefixtures("shared_machine")
def test_an_assigned_pf_does_not_count(stub: Function, assign: Assign) -> None:
    stub.numvfs = 1
    assign(stub)
    stub.numvfs = 0
    assert stub.vfs == []


@pytest.mark.machine("minimal")
def test_what_is_no_function_cannot_be_assigned(guest_module: LoadModule) -> None:
    for parameters in ({"function": "0000:ff:1f.7"}, {"function": "a function"}, {}):
        with raises_errno(ENODEV):
            guest_module("iov-assign", **parameters)


@on("igb")
@pytest.mark.usefixtures("shared_machine")
def test_one_function_is_assigned_at_a_time(pf: Function, assign: Assign) -> None:
    assign(pf)
    with raises_errno(EEXIST):
        assign(pf)
