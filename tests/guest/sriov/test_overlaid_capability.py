# SPDX-License-Identifier: GPL-2.0-or-later
"""SR-IOV capabilities that no model of QEMU's has, laid over one that has working VFs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EIO, ENODEV, ENOSYS, ERANGE

import pytest
from sriov_cases import STUB, hand_over, is_pf, move_vfs, on, places, said, settle

from harness.device.overlay import KEEP, Overlay
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.guest.pci import Bdf, Function
from harness.machine.machine import Machine

Found = Callable[..., Function]
NO_SUCH_TYPE = 0x7F
"""A header type that there is not: pci_setup_device() takes no such function (drivers/pci/probe.c)."""

pytestmark = pytest.mark.usefixtures("shared_machine")


@pytest.fixture
def found(machine: Machine, guest: Guest, pf: Function, overlay: Overlay) -> Iterator[Found]:
    """Has the kernel find the PF anew, whose registers are shown as given, and puts it under pci-pf-stub if it is one.

    Then all is as it was.
    """

    def find(**registers: int) -> Function:
        pf.remove()
        for name, value in registers.items():
            overlay.config[name] = value
        guest.rescan()
        if is_pf(pf):
            hand_over(guest, pf, STUB)
        return pf

    yield find
    if pf.exists and is_pf(pf):
        settle(guest, pf, STUB)
    if pf.exists:
        pf.remove()
    machine.overlays.clear()
    guest.rescan()


@on("igb-stub", "nvme-stub")
@pytest.mark.row("SR-06")
def test_without_any_vf_a_function_is_no_pf_and_nobody_complains(guest: Guest, found: Found) -> None:
    mark = guest.log_mark()
    pf = found(sriov_total_vfs=0)
    assert pf.exists
    assert not is_pf(pf)
    assert not said(guest, mark, f"{pf.bdf}: VF")


@on("igb-stub", "nvme-stub")
@pytest.mark.parametrize("total", [1, 2, 3])
def test_there_are_as_many_vfs_as_are_declared(found: Found, total: int) -> None:
    pf = found(sriov_total_vfs=total, sriov_initial_vfs=total)
    assert pf.totalvfs == total
    with raises_errno(ERANGE):
        pf.numvfs = total + 1
    pf.numvfs = total
    assert len(pf.vfs) == total
    pf.numvfs = 0


@on("igb-stub", "nvme-stub")
@pytest.mark.row("SR-34")
@pytest.mark.parametrize("initial", [0, 1, 0xFFFF])
def test_no_vf_is_enabled_where_initial_and_total_differ(guest: Guest, found: Found, initial: int) -> None:
    pf = found(sriov_initial_vfs=initial)
    mark = guest.log_mark()
    with raises_errno(EIO):
        pf.numvfs = 1
    assert (pf.numvfs, pf.vfs, pf.config_space.sriov.vf_enable) == (0, [], False)
    assert not said(guest, mark, str(pf.bdf))


@on("igb-stub", "nvme-stub")
@pytest.mark.row("SR-07", "SR-08")
@pytest.mark.parametrize(("supported", "chosen"), [(0x553, 1), (0x552, 2), (0x550, 0x10), (0x400, 0x400), (0, None)])
def test_the_smallest_page_size_that_will_do_is_chosen(
    found: Found, overlay: Overlay, supported: int, chosen: int | None
) -> None:
    overlay.config.show("sriov_system_page_size", 0, writes=KEEP)
    at = overlay.config.register("sriov_system_page_size").offset
    since = overlay.log.mark()
    pf = found(sriov_supported_page_sizes=supported)
    assert is_pf(pf) == (chosen is not None)
    assert [one.value for one in overlay.log.writes(at, since=since)] == ([] if chosen is None else [chosen])


@on("igb-stub")
@pytest.mark.row("SR-09")
@pytest.mark.parametrize("size", [16, 0x800])
def test_a_vf_bar_that_is_no_whole_page_makes_no_pf(found: Found, overlay: Overlay, size: int) -> None:
    writable = 0x1000 - size  # these bits of the BAR, too, can be written: so its size is read
    overlay.show(overlay.config.find(0x10) + 0x24, bytes(2), mask=writable.to_bytes(2, "little"), writes=KEEP)
    assert not is_pf(found())


@on("igb-stub", "nvme-stub")
@pytest.mark.row("SR-10")
@pytest.mark.parametrize(("offset", "stride"), [(0, 1), (0, 0), (1, 0)])
def test_vfs_must_have_routing_ids_of_their_own(found: Found, offset: int, stride: int) -> None:
    assert not is_pf(found(sriov_first_vf_offset=offset, sriov_vf_stride=stride))


@on("igb-stub", "nvme-stub")
@pytest.mark.row("SR-10")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_they_must_for_every_number_of_them(found: Found, overlay: Overlay, count: int) -> None:
    overlay.config.show("sriov_first_vf_offset", 0, when={"sriov_num_vfs": count})
    assert not is_pf(found())


@on("igb-stub")
@pytest.mark.row("SR-05", "SR-51")
def test_vfs_lie_where_the_pf_says_for_their_number(machine: Machine, found: Found, overlay: Overlay) -> None:
    overlay.config.show("sriov_first_vf_offset", 0x20, when={"sriov_num_vfs": 2})
    pf = found()
    pf.numvfs = 1
    assert pf.offset == overlay.config["sriov_first_vf_offset"]
    pf.numvfs = 0
    first, stride = pf.bdf.routing_id + 0x20, overlay.config["sriov_vf_stride"]
    move_vfs(machine, "igb0", [Bdf.from_routing_id(first), Bdf.from_routing_id(first + stride)])
    pf.numvfs = 2
    assert pf.offset == 0x20
    assert [vf.bdf for vf in pf.vfs] == places(pf, 2)
    pf.numvfs = 0


@on("igb-stub")
@pytest.mark.row("SR-50", "SR-51", "SR-60")
@pytest.mark.parametrize(
    ("offset", "stride"),
    [
        (1, 1),
        (1, 2),
        (7, 1),
        (8, 8),
        (0x0F, 0x11),
        (0x20, 4),
        (0x7F, 1),
        (0x80, 0x10),
        (0xF8, 1),
        (0x10, 0x1F),
        (0xFF, 0),
    ],
)
def test_vfs_are_found_and_work_wherever_they_lie(machine: Machine, found: Found, offset: int, stride: int) -> None:
    total = 8 if stride else 1
    pf = found(sriov_first_vf_offset=offset, sriov_vf_stride=stride, sriov_total_vfs=total, sriov_initial_vfs=total)
    where = [Bdf.from_routing_id(pf.bdf.routing_id + offset + number * stride) for number in range(total)]
    move_vfs(machine, "igb0", where)
    pf.numvfs = total
    assert [vf.bdf for vf in pf.vfs] == where
    assert {vf.class_code for vf in pf.vfs} == {0x020000}
    assert all(vf.config(0x2C, 4) == pf.vfs[0].config(0x2C, 4) != b"\xff" * 4 for vf in pf.vfs)
    pf.numvfs = 0


@on("igb-stub", "nvme-stub")
@pytest.mark.row("SR-43")
@pytest.mark.parametrize("count", [1, 4])
def test_where_the_first_vf_cannot_be_set_up_none_is_enabled(
    machine: Machine, guest: Guest, found: Found, count: int
) -> None:
    pf = found()
    first = machine.overlay(machine.spec.profile.pfs[0], vf=0)
    with first.config.show("header_type", NO_SUCH_TYPE):
        mark = guest.log_mark()
        with raises_errno(EIO):
            pf.numvfs = count
        assert said(guest, mark, "unknown header type 7f, ignoring device")
        assert (pf.numvfs, pf.vfs) == (0, [])
        assert not pf.config_space.sriov.vf_enable
        assert {one.bdf for one in guest.functions()}.isdisjoint(places(pf, count))
    pf.numvfs = count
    assert len(pf.vfs) == count
    pf.numvfs = 0


@on("igb-stub")
@pytest.mark.row("SR-13")
def test_all_vfs_are_taken_for_what_the_first_is(machine: Machine, found: Found) -> None:
    """Nobody looks at the others: not even at one that could not be set up, were it the first."""
    pf = found()
    other, first = (machine.overlay("igb0", vf=number).config for number in (1, 0))
    with other.show("class_code", 0x088000), other.show("header_type", NO_SUCH_TYPE):
        pf.numvfs = 3
        assert [vf.class_code for vf in pf.vfs] == [0x020000] * 3
        assert pf.vfs[1].config_space.word(0x0A) == 0x0880  # that is how it really was
        pf.numvfs = 0
    with first.show("class_code", 0x088000):
        pf.numvfs = 3
        assert [vf.class_code for vf in pf.vfs] == [0x088000] * 3
        pf.numvfs = 0


@on("igb-stub")
@pytest.mark.row("SR-39")
def test_a_link_to_a_function_that_is_not_there(found: Found) -> None:
    pf = found(sriov_dependency_link=5)
    with raises_errno(ENODEV):
        pf.numvfs = 2
    assert (pf.numvfs, pf.vfs) == (0, [])


@pytest.mark.machine("igb-pair")
@pytest.mark.row("SR-40", "SR-41")
def test_a_link_to_the_other_function_of_the_slot(machine: Machine, guest: Guest, found: Found) -> None:
    pf = found(sriov_dependency_link=1)
    other = machine.pfs[1]
    pf.numvfs = 2
    assert pf.linked("dep_link") == other
    pf.numvfs = 0
    assert pf.linked("dep_link") is None
    other_overlay = machine.overlay("igb1")
    other.remove()
    other_overlay.config["sriov_total_vfs"] = 0  # it is no PF any more
    guest.rescan()
    with raises_errno(ENOSYS):
        pf.numvfs = 2
    assert (pf.numvfs, pf.vfs) == (0, [])


@on("igb-stub", "nvme-stub")
@pytest.mark.row("SR-105")
def test_vf_enable_that_was_left_on_is_switched_off(found: Found, overlay: Overlay) -> None:
    control = overlay.config.register("sriov_control").offset
    overlay.config.show("sriov_control", 0x01, writes=KEEP, mask=0x01)
    since = overlay.log.mark()
    pf = found()
    assert is_pf(pf)
    assert not pf.config_space.sriov.vf_enable
    written = [one.value & 0x1F for one in overlay.log.writes(control, since=since)]
    assert written[0] == 0  # and only then what sriov_init() always writes
    assert len(written) >= 2
    assert pf.numvfs == 0


@on("igb-stub", "nvme-stub")
@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 13])
def test_a_pf_that_is_gone_in_the_midst_of_enabling_breaks_nothing(
    guest: Guest, found: Found, overlay: Overlay, after: int
) -> None:
    """What the write says is not asked: only that it comes to an end, with a kernel that has nothing to report."""
    pf = found()
    with overlay.faults.all_ones(after=after):
        guest.agent.call(pf.writing("sriov_numvfs", 2))
        if pf.numvfs:
            pf.numvfs = 0
    assert pf.exists
