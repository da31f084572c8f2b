# SPDX-License-Identifier: GPL-2.0-or-later
"""What an overlay tells QEMU: the properties that it sets, for a function whose bytes are made here."""

from __future__ import annotations

from typing import Any

import pytest

from harness.device import capabilities
from harness.device.config_space import ConfigSpace, Identity
from harness.device.log import Entry, Kind
from harness.device.overlay import KEEP, Overlay

SRIOV = capabilities.sriov(total_vfs=8, first_vf_offset=0x80, vf_stride=2)
FUNCTION = ConfigSpace(Identity(0x8086, 0x10C9, 0x020000), [capabilities.serial_number(1), SRIOV])


class Object:
    """Stands in for iov-overlay: its properties, as they were set."""

    def __init__(self) -> None:
        self.properties: dict[str, Any] = {
            "config": list(FUNCTION.peek(0, 0x1000)),
            "log": {"count": 0, "accesses": []},
        }

    @property
    def rules(self) -> list[dict[str, Any]]:
        return list(self.properties.get("rules", []))


@pytest.fixture
def object_() -> Object:
    """Give an object of QEMU's."""
    return Object()


@pytest.fixture
def overlay(object_: Object) -> Overlay:
    """Give what sets its properties."""
    return Overlay(object_.properties.__getitem__, object_.properties.__setitem__)


def test_a_register_is_shown_where_the_function_has_it(object_: Object, overlay: Overlay) -> None:
    at = FUNCTION.find(capabilities.SRIOV)
    overlay.config["sriov_total_vfs"] = 0x1234
    overlay.config["device_id"] = 0x53
    assert [(rule["at"], rule["value"], rule["writes"]) for rule in object_.rules] == [
        (at + 0x0E, [0x34, 0x12], "drop"), (2, [0x53, 0], "drop"),
    ]  # fmt: skip
    assert (overlay.config["sriov_total_vfs"], overlay.config["device_id"]) == (8, 0x10C9)  # its own


def test_what_was_shown_for_a_register_is_replaced_and_can_be_taken_away(object_: Object, overlay: Overlay) -> None:
    overlay.config["sriov_vf_stride"] = 0
    overlay.config["sriov_vf_stride"] = 3
    assert [rule["value"] for rule in object_.rules] == [[3, 0]]
    del overlay.config["sriov_vf_stride"]
    assert object_.rules == []
    with pytest.raises(KeyError, match="nothing is shown for register sriov_vf_stride"):
        del overlay.config["sriov_vf_stride"]


def test_a_rule_ends_with_its_block(object_: Object, overlay: Overlay) -> None:
    with overlay.config.show("header_type", 0x7F) as rule:
        assert len(object_.rules) == 1
    assert object_.rules == []
    rule.end()  # once more is no harm


def test_how_a_rule_is_in_force_is_told(object_: Object, overlay: Overlay) -> None:
    overlay.config.show("sriov_num_vfs", 1, mask=0x0101, writes=KEEP, after=3, times=2)
    assert object_.rules == [
        {
            "at": FUNCTION.find(capabilities.SRIOV) + 0x10,
            "value": [1, 0],
            "mask": [1, 1],
            "writes": "keep",
            "after": 3,
            "times": 2,
        }
    ]


def test_a_condition_on_several_registers_is_one_run_of_bytes(object_: Object, overlay: Overlay) -> None:
    overlay.config.show("sriov_first_vf_offset", 0, when={"sriov_num_vfs": 3, "sriov_total_vfs": 8})
    (rule,) = object_.rules
    at = FUNCTION.find(capabilities.SRIOV) + 0x0E
    assert rule["when"] == {"at": at, "value": [8, 0, 3, 0], "mask": [0xFF] * 4}


def test_a_register_that_is_none_is_named_with_those_that_there_are(overlay: Overlay) -> None:
    with pytest.raises(KeyError, match=r"no register siov_status, but vendor_id, .*sriov_num_vfs"):
        overlay.config["siov_status"] = 1


def test_a_value_that_does_not_fit_is_refused(object_: Object, overlay: Overlay) -> None:
    for value in (0x10000, -1):
        with pytest.raises(ValueError, match="sriov_total_vfs has 16 bits, which do not hold"):
            overlay.config["sriov_total_vfs"] = value
    with pytest.raises(ValueError, match="a mask of 1 bytes for a value of 2"):
        overlay.show(0, b"ab", mask=b"\xff")
    with pytest.raises(ValueError, match="writes='ignore': what becomes of a write is 'drop', 'keep' or 'pass'"):
        overlay.show(0, b"ab", writes="ignore")
    assert object_.rules == []


@pytest.mark.parametrize("routing_id", [-1, 0x10000])
def test_what_is_no_routing_id_is_refused(overlay: Overlay, routing_id: int) -> None:
    with pytest.raises(ValueError, match=r"routing ID .*, of 16 bits"):
        overlay.answer_at(routing_id)


def test_a_capability_is_added_with_its_registers(object_: Object, overlay: Overlay) -> None:
    overlay.add(capabilities.siov(total_sdis=0x102, first_sdi_offset=3, sdi_stride=4, status=1))
    overlay.add(capabilities.raw(0x42, b"abcd", version=2).placed(0x800))
    first, second = object_.rules
    assert first == {
        "capability": {"id": 0x38, "version": 1}, "value": [0, 0, 0, 0, 2, 1, 0, 1, 3, 0, 4, 0],
    }  # fmt: skip
    assert second == {"capability": {"id": 0x42, "version": 2}, "value": list(b"abcd"), "at": 0x800}
    with pytest.raises(ValueError, match="only extended capabilities"):
        overlay.add(capabilities.vendor_specific(b"x"))


def test_a_link_leads_elsewhere_and_leaves_id_and_version(object_: Object, overlay: Overlay) -> None:
    at = FUNCTION.find(capabilities.SRIOV)
    overlay.config.link(at, at)
    (rule,) = object_.rules
    assert int.from_bytes(bytes(rule["value"]), "little") == 0x10 | 1 << 16 | at << 20


def test_faults(object_: Object, overlay: Overlay) -> None:
    with overlay.faults.all_ones(after=5):
        (rule,) = object_.rules
        assert (rule["at"], rule["value"], rule["after"], rule["times"]) == (0, [0xFF] * 0x1000, 5, 0)
    overlay.faults.wrong_value(4, 0x1234, 2, times=1)
    (rule,) = object_.rules
    assert (rule["at"], rule["value"], rule["writes"], rule["times"]) == (4, [0x34, 0x12], "pass", 1)


def test_what_the_profile_declares_stays_when_all_is_cleared(object_: Object) -> None:
    declared = [{"at": 0, "value": [0x0F, 0x1D]}]
    overlay = Overlay(object_.properties.__getitem__, object_.properties.__setitem__, declared)
    overlay.config["device_id"] = 1
    assert len(object_.rules) == 2
    overlay.answer_at(0x300)
    overlay.clear()
    assert object_.rules == declared
    assert object_.properties["routing-id"] == 0xFFFFFFFF


def test_a_rule_that_is_never_in_force_is_refused(object_: Object, overlay: Overlay) -> None:
    with pytest.raises(ValueError, match="times=0: a rule is in force at least once"):
        overlay.faults.wrong_value(0, 1, 1, times=0)
    assert object_.rules == []


def test_a_function_that_is_not_there_is_told(object_: Object, overlay: Overlay) -> None:
    assert overlay.is_attached
    object_.properties["config"] = []
    assert not overlay.is_attached
    with pytest.raises(LookupError, match="not there"):
        overlay.config["device_id"] = 1


def test_rules_that_are_refused_are_not_kept(object_: Object) -> None:
    def refuse(name: str, value: Any) -> None:
        raise RuntimeError(name, value)

    overlay = Overlay(object_.properties.__getitem__, refuse)
    with pytest.raises(RuntimeError):
        overlay.config["device_id"] = 1
    assert overlay.named("device_id") is None


def test_the_log_gives_accesses_since_a_mark(object_: Object, overlay: Overlay) -> None:
    def said(count: int, *accesses: tuple[bool, int, int, int]) -> None:
        names = ("write", "at", "size", "value")
        object_.properties["log"] = {
            "count": count, "accesses": [dict(zip(names, one, strict=True)) for one in accesses],
        }  # fmt: skip

    said(7, (False, 0, 4, 0x10C98086), (True, 4, 2, 6))
    since = overlay.log.mark()
    assert list(overlay.log) == [Entry(0.0, Kind.READ, 7, 0, 4, 0x10C98086), Entry(0.0, Kind.WRITE, 7, 4, 2, 6)]
    assert overlay.log.entries(since=since) == []
    said(9, (True, 4, 2, 6), (False, 6, 2, 0x10), (True, 4, 4, 0))
    assert [one.value for one in overlay.log.writes(since=since)] == [0]
    assert [one.value for one in overlay.log.reads(7, since=since)] == [0x10]
    assert [one.value for one in overlay.log.writes(5)] == [6, 0]
