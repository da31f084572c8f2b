# SPDX-License-Identifier: GPL-2.0-or-later
"""iov-overlay: what it makes of reads and writes, over a function whose own side shows what reaches it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from functions import IDENTITY, function
from lane_helpers import StartLane

from harness import chain
from harness.device import capabilities
from harness.device.device import CONFIG, Device
from harness.machine import lane as lanes
from harness.machine.parts import without_overlay
from harness.pytest_plugin.options import RUN
from harness.qemu.ecam import EcamFunction
from harness.qemu.process import QemuDied

ID = IDENTITY.device_id << 16 | IDENTITY.vendor_id
LATENCY, CACHE_LINE = 0x0D, 0x0C
Overlaid = Callable[..., tuple[Device, EcamFunction]]


@pytest.fixture(autouse=True)
def has_overlay(request: pytest.FixtureRequest) -> None:
    """Skips on a QEMU without the overlay."""
    qemu = request.config.stash[RUN].store.qemu()
    if not qemu.has_overlay:
        pytest.skip(without_overlay(qemu))


@pytest.fixture
def overlaid(start: StartLane) -> Overlaid:
    """Starts a QEMU with a function that these rules lie over; gives its own side, and what software sees."""

    def start_one(
        *rules: dict[str, Any], chain: list[capabilities.Capability] | None = None
    ) -> tuple[Device, EcamFunction]:
        device = function(chain=chain)
        lane = start(device, overlays=[{"device": "device0", "rules": list(rules)}])
        device.log.clear()
        return device, lane.function()

    return start_one


def test_without_rules_a_function_is_what_it_is(overlaid: Overlaid) -> None:
    _, seen = overlaid()
    assert seen.read(0) == ID


def test_a_value_is_seen_whatever_is_behind_it(overlaid: Overlaid) -> None:
    _, seen = overlaid({"at": 0, "value": [0x0F, 0x1D, 0x53, 0x00]})
    assert seen.read(0) == 0x00531D0F
    assert (seen.read(0, 2), seen.read(2, 2), seen.read(1, 1)) == (0x1D0F, 0x0053, 0x1D)
    assert seen.read(8) == IDENTITY.class_code << 8 | IDENTITY.revision


def test_only_the_bits_of_the_mask_are_changed(overlaid: Overlaid) -> None:
    _, seen = overlaid({"at": 1, "value": [0xFF, 0x00], "mask": [0xF0, 0x0F]})
    assert seen.read(0) == (ID & ~0x000FF000) | 0x0000F000


def test_a_mask_that_is_short_counts_all_bits_behind_it(overlaid: Overlaid) -> None:
    _, seen = overlaid({"at": 0, "value": [0, 0], "mask": [0x0F]})
    assert seen.read(0, 2) == IDENTITY.vendor_id & 0x00F0


def test_of_several_rules_the_last_one_counts(overlaid: Overlaid) -> None:
    _, seen = overlaid({"at": 0, "value": [1, 1]}, {"at": 1, "value": [2]})
    assert seen.read(0, 2) == 0x0201


def test_a_write_is_dropped(overlaid: Overlaid) -> None:
    device, seen = overlaid({"at": CACHE_LINE, "value": [0x77]})
    seen.write(CACHE_LINE, 0x55, 1)
    assert (seen.read(CACHE_LINE, 1), device.config["cache_line_size"]) == (0x77, 0)


def test_a_write_is_kept(overlaid: Overlaid) -> None:
    device, seen = overlaid({"at": CACHE_LINE, "value": [0x77], "mask": [0x0F], "writes": "keep"})
    seen.write(CACHE_LINE, 0x55, 1)
    assert seen.read(CACHE_LINE, 1) == 0x55
    assert device.config["cache_line_size"] == 0x50  # the other bits are the function's own


def test_a_write_passes_and_what_is_seen_stays(overlaid: Overlaid) -> None:
    device, seen = overlaid({"at": CACHE_LINE, "value": [0x77], "writes": "pass"})
    seen.write(CACHE_LINE, 0x55, 1)
    assert (seen.read(CACHE_LINE, 1), device.config["cache_line_size"]) == (0x77, 0x55)


def test_bytes_beside_those_of_a_rule_are_written(overlaid: Overlaid) -> None:
    device, seen = overlaid({"at": 0x3D, "value": [0]})
    seen.write(0x3C, 0xAABB, 2)  # Interrupt Line, which is QEMU's and the function's, and Interrupt Pin
    assert device.log.writes(CONFIG, 0x3D) == []
    assert seen.read(0x3C, 1) == 0xBB


@pytest.mark.parametrize(
    ("after", "times", "seen_as"), [(0, 2, "yynn"), (1, 2, "nyyn"), (3, 0, "nnny"), (0, 0, "yyyy")]
)
def test_a_rule_is_in_force_after_some_accesses_and_for_some(
    overlaid: Overlaid, after: int, times: int, seen_as: str
) -> None:
    _, seen = overlaid({"at": 0, "value": [0, 0], "after": after, "times": times})
    assert seen.read(4, 2) is not None  # no access to its bytes
    assert "".join("y" if seen.read(0, 2) == 0 else "n" for _ in range(4)) == seen_as


def test_a_rule_is_in_force_while_the_function_holds_something(overlaid: Overlaid) -> None:
    _, seen = overlaid({"at": 0, "value": [0, 0], "when": {"at": CACHE_LINE, "value": [0x12], "mask": [0x1F]}})
    assert seen.read(0, 2) == IDENTITY.vendor_id
    seen.write(CACHE_LINE, 0xF2, 1)
    assert seen.read(0, 2) == 0
    seen.write(CACHE_LINE, 0xF3, 1)
    assert seen.read(0, 2) == IDENTITY.vendor_id


def test_capabilities_are_linked_into_the_chain_where_there_is_room(overlaid: Overlaid) -> None:
    device, seen = overlaid(
        {"capability": {"id": 0x38, "version": 1}, "value": [*range(1, 13)]},
        {"capability": {"id": 0x42, "version": 3}, "value": [9, 9, 9, 9]},
        {"capability": {"id": 0x43, "version": 15}, "value": [7], "at": 0xE00},
    )
    own = [(one.at, one.id) for one in chain.extended(device.config.peek(0, 0x1000))]
    config = seen.config()
    links = list(chain.extended(config))
    assert [(one.at, one.id) for one in links if (one.at, one.id) in own] == own
    added = {one.id: one for one in links if (one.at, one.id) not in own}
    assert [(one.id, one.at, one.version) for one in added.values()] == [
        (0x43, 0xE00, 15),
        (0x42, 0xFE8, 3),
        (0x38, 0xFF0, 1),
    ]
    assert config[0xFF4:0x1000] == bytes(range(1, 13))
    assert config[0xFEC:0xFF0] == b"\x09" * 4


def test_the_first_capability_lies_where_the_chain_begins(overlaid: Overlaid) -> None:
    _, seen = overlaid(
        {"capability": {"id": 0x38, "version": 1}, "value": [1] * 12}, chain=[capabilities.express_endpoint()]
    )
    assert [tuple(one) for one in chain.extended(seen.config())] == [(0x100, 0x38, 1)]


@pytest.mark.parametrize(
    ("rule", "says"),
    [({"at": 0xFFF, "value": [1, 2]}, "must end at 0x1000"), ({"value": [1]}, "must end at"),
     ({"at": 4, "value": []}, "needs a value"), ({"at": 0, "value": [256]}, "uint8"),
     ({"at": 0, "value": [1], "writes": "never"}, "never"),
     ({"at": 0, "value": [1], "when": {"at": 0xFFFF, "value": [1]}}, "must end at")],
    ids=["over-the-end", "nowhere", "nothing", "no-byte", "no-such-way", "never-holds"],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused_in_words(qemu: Path, rule: dict[str, Any], says: str) -> None:
    overlays = [{"device": "device0", "rules": [rule]}]
    with (
        pytest.raises(QemuDied, match=f"(?s)exit code 1; it said: .*{says}"),
        lanes.running(qemu, [function()], overlays=overlays),
    ):
        pass


def test_a_function_has_one_overlay_the_first(start: StartLane) -> None:
    overlays = [{"device": "device0", "rules": [{"at": 0, "value": [number]}]} for number in (1, 2)]
    assert start(function(), overlays=overlays).function().read(0, 1) == 1


def test_two_functions_have_an_overlay_each(start: StartLane) -> None:
    overlays = [{"device": f"device{number}", "rules": [{"at": 0, "value": [number, number]}]} for number in (0, 1)]
    lane = start(function(), function(), function(), overlays=overlays)
    assert [lane.function(number).read(0, 2) for number in range(3)] == [0, 0x0101, IDENTITY.vendor_id]


def test_a_function_answers_elsewhere(start: StartLane) -> None:
    lane = start(function(), function(), overlays=[{"device": "device1", "routing-id": 0x4210}])
    assert lane.board.function(0x42, 2, 0).read(0) == ID
    assert lane.function(1).read(0) == 0xFFFFFFFF
    assert lane.function(0).read(0) == ID


@pytest.mark.parametrize(
    ("first", "second", "seen_as", "own"),
    [("drop", "pass", 7, 5), ("pass", "drop", 7, 0), ("keep", "drop", 7, 0), ("drop", "keep", 5, 0)],
)
def test_of_several_rules_for_a_bit_the_last_one_decides_of_writes(
    overlaid: Overlaid, first: str, second: str, seen_as: int, own: int
) -> None:
    device, seen = overlaid(*({"at": CACHE_LINE, "value": [7], "writes": writes} for writes in (first, second)))
    seen.write(CACHE_LINE, 5, 1)
    assert (seen.read(CACHE_LINE, 1), device.config["cache_line_size"]) == (seen_as, own)


@pytest.mark.parametrize(
    "more",
    [
        {"at": 0xFF8}, {"at": 0x102}, {"at": 0x40}, {"capability": {"id": 1, "version": 16}}, {"writes": "keep"},
        {"after": 1},
    ],
    ids=["over-another", "crooked", "low", "version", "writes", "after"],
)  # fmt: skip
def test_a_capability_that_cannot_be_is_not_taken_and_the_function_stays_as_it_is(
    start: StartLane, more: dict[str, Any]
) -> None:
    added = {"capability": {"id": 0x38, "version": 1}, "value": [1] * 12}
    lane = start(function(), overlays=[{"device": "device0", "rules": [added, {**added, **more}]}])
    assert 0x38 not in [one.id for one in chain.extended(lane.function().config()) if one.at > 0xF00]


def test_a_function_is_gone_in_the_midst_of_what_is_done_to_it(overlaid: Overlaid) -> None:
    device, seen = overlaid({"at": 0, "value": [0xFF] * 0x1000, "after": 2})
    assert [seen.read(0) for _ in range(4)] == [ID, ID, 0xFFFFFFFF, 0xFFFFFFFF]
    seen.write(CACHE_LINE, 1, 1)
    assert device.config["cache_line_size"] == 0
