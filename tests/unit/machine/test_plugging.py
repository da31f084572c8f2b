# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugging and unplugging: what QEMU is asked for, and when the guest is waited for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.guest import arrival
from harness.guest.guest import Guest
from harness.guest.pci import Bdf
from harness.machine import plugging
from harness.machine.plugging import plug, unplug
from harness.qemu.hotplug import Plug
from harness.qemu.qmp import COMMAND_TIMEOUT, Event, Monitor

GUEST = cast("Guest", SimpleNamespace(session="the session"))


def device(name: str, **properties: str) -> Plug:
    return Plug(name, "-device", {"id": name, **properties})


NETDEV = Plug("n", "-netdev", {"id": "n"})


class World(Monitor):
    """A QEMU whose devices have `places`, with the guest; `done` is what was done to either."""

    def __init__(self, **places: str) -> None:
        self.done: list[str] = []
        self.places = places
        self.late: Exception | None = None
        self.after: list[Event] = []
        self.events = [Event("DEVICE_DELETED", 1.0, {"device": "igb0"})]
        self._changed = threading.Condition()
        self._reason = ""

    def command(self, command: str, arguments: Mapping[str, Any], *, timeout: float = COMMAND_TIMEOUT) -> Any:
        assert timeout == COMMAND_TIMEOUT
        if command == "query-pci":
            spots = {name: Bdf.parse(f"0000:{place}") for name, place in self.places.items()}
            return [{"devices": [
                {"qdev_id": name, "bus": at.bus, "slot": at.device, "function": at.function}
                for name, at in spots.items()
            ]}]  # fmt: skip
        self.done.append(f"{command} {arguments['id']}")
        self.events += self.after
        return {}

    def wait_finished(self, guest: Guest, uevents: World, bdf: Bdf, deadline: Deadline) -> None:
        assert (guest, uevents, deadline.what) == (GUEST, self, "x")
        self.done.append(f"wait {bdf}")
        if self.late is not None:
            raise self.late

    def listen(self, session: object) -> World:
        assert session == "the session"
        self.done.append("listen")
        return self

    def close(self) -> None:
        self.done.append("close")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Make a QEMU with a guest."""
    made = World(igb0="01:00.0", pf="03:00.0", fn1="03:00.1")
    monkeypatch.setattr(plugging, "Uevents", made.listen)
    monkeypatch.setattr(arrival, "wait_finished", made.wait_finished)
    return made


def plugged(world: World, *plugs: Plug) -> list[str]:
    names: list[str] = []
    plug(world, GUEST, plugs, Deadline(20, "x"), names.append)
    return names


def test_the_guest_is_listened_to_from_before_until_after_and_waited_for_at_each_device(world: World) -> None:
    assert plugged(world, NETDEV, device("igb0"), device("pf")) == ["n", "igb0", "pf"]
    assert world.done == [
        "listen", "netdev_add n",
        "device_add igb0", "wait 0000:01:00.0",
        "device_add pf", "wait 0000:03:00.0",
        "close",
    ]  # fmt: skip


def test_a_name_is_given_once_the_guest_has_finished_with_it(world: World) -> None:
    plug(world, GUEST, [device("igb0"), device("pf")], Deadline(20, "x"), lambda name: world.done.append(name))
    assert world.done[1:5] == ["device_add igb0", "wait 0000:01:00.0", "igb0", "device_add pf"]


def test_a_vf_is_not_waited_for_since_only_its_pf_brings_it(world: World) -> None:
    world.places["vf"] = "03:00.1"
    plugged(world, device("vf", **{"sriov-pf": "pf"}), device("pf"))
    assert world.done[1:-1] == ["device_add vf", "device_add pf", "wait 0000:03:00.0"]


def test_a_further_function_is_waited_for_when_its_slots_function_0_is_there(world: World) -> None:
    plugged(world, device("fn1"), device("pf"), device("igb0"))
    assert world.done[1:-1] == [
        "device_add fn1",
        "device_add pf", "wait 0000:03:00.1", "wait 0000:03:00.0",
        "device_add igb0", "wait 0000:01:00.0",
    ]  # fmt: skip


def test_a_device_that_is_on_no_pci_bus_is_not_waited_for(world: World) -> None:
    assert plugged(world, device("namespace")) == ["namespace"]
    assert world.done == ["listen", "device_add namespace", "close"]


def test_nothing_to_plug_asks_nothing_of_anybody(world: World) -> None:
    assert plugged(world) == []
    assert world.done == []


def test_a_guest_that_does_not_finish_is_told_and_listened_to_no_more(world: World) -> None:
    world.late = DeadlineExpired("late")
    with pytest.raises(DeadlineExpired, match=r"^late$"):
        plugged(world, device("igb0"), device("pf"))
    assert world.done == ["listen", "device_add igb0", "wait 0000:01:00.0", "close"]


def test_a_device_is_gone_when_qemu_says_so_of_the_device_itself(world: World) -> None:
    parts = Event("DEVICE_DELETED", 2.0, {"path": "/machine/peripheral/igb0/virtio-backend"})
    other = Event("DEVICE_DELETED", 2.0, {"device": "igb1"})
    world.after = [parts, other]
    with pytest.raises(DeadlineExpired, match=r"^x: nothing within 0\.05 s$"):
        unplug(world, "igb0", Deadline(0.05, "x"))
    world.after = [parts, Event("DEVICE_DELETED", 3.0, {"device": "igb0"})]
    unplug(world, "igb0", Deadline(20, "x"))
    assert world.done == ["device_del igb0"] * 2


BRIDGE: dict[str, Any] = {
    "qdev_id": "rp1", "bus": 0, "slot": 16, "function": 0,
    "pci_bridge": {"devices": [{"qdev_id": "igb0", "bus": 1, "slot": 0, "function": 0}]},
}  # fmt: skip


def test_devices_behind_bridges_have_their_addresses_and_those_without_an_id_have_none(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    nameless = {"qdev_id": "", "bus": 0, "slot": 1, "function": 0}
    empty = {**BRIDGE, "qdev_id": "rp2", "slot": 17, "pci_bridge": {}}
    monkeypatch.setattr(World, "command", lambda *_, **__: [{"devices": [nameless, BRIDGE, empty]}])
    found = {name: str(bdf) for name, bdf in plugging.topology.addresses(world).items()}
    assert found == {"rp1": "0000:00:10.0", "igb0": "0000:01:00.0", "rp2": "0000:00:11.0"}
