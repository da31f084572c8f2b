# SPDX-License-Identifier: GPL-2.0-or-later
"""What is plugged, in which order, and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.qemu.hotplug import Plug, split
from harness.qemu.options import Option
from harness.qemu.profile import Library
from harness.qemu.template import CommandLine, Renderer, Software, Wiring


def option(name: str, **properties: Any) -> Option:
    return Option(name, json.dumps(properties))


def device(name: str, **properties: Any) -> Option:
    return option("-device", driver="x", id=name, **properties)


def netdev(name: str) -> Option:
    return option("-netdev", type="user", id=name)


def order(*options: Option) -> list[str]:
    plugs, at_start = split(options)
    assert at_start == []
    return [plug.name for plug in plugs]


def refused(*options: Option) -> str:
    with pytest.raises(UsageError) as caught:
        split(options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("backend", "user"),
    [
        (netdev("n"), device("d", netdev="n")),
        (option("-object", **{"qom-type": "rng-random", "id": "r"}), device("d", rng="r")),
        (option("-blockdev", **{"driver": "null-co", "node-name": "b"}), device("d", drive="b")),
        (device("port"), device("d", bus="port")),
        (device("port"), device("d", bus="port.0")),
        (netdev("n"), device("d", several=[{"deeper": ["n"]}])),
    ],
    ids=["netdev", "object", "blockdev", "bus", "bus.0", "nested"],
)
def test_a_backend_is_plugged_before_its_device_whichever_the_profile_names_first(
    backend: Option, user: Option
) -> None:
    first, last = order(backend, user)
    assert last == "d"
    assert order(user, backend) == [first, "d"]


def test_what_needs_what_is_followed_over_several_steps() -> None:
    assert order(device("c", bus="b.0"), device("b", bus="a"), device("a", netdev="n"), netdev("n")) == list("nabc")


def test_a_vf_is_plugged_before_the_pf_that_it_names_and_after_its_own_backend() -> None:
    vf = device("vf", netdev="n", **{"sriov-pf": "pf"})
    assert order(device("pf"), vf, netdev("n")) == ["n", "vf", "pf"]


def test_what_needs_nothing_stays_in_the_order_of_the_profile() -> None:
    assert order(*map(device, "dbca")) == list("dbca")


@pytest.mark.parametrize(
    "properties",
    [{"netdev": "a.0"}, {"bus": "x.a"}, {"netdev": "aa"}, {"a": "x"}, {"addr": 1, "romfile": None}, {"serial": "d"}],
    ids=str,
)
def test_what_only_looks_like_another_devices_name_is_none(properties: dict[str, Any]) -> None:
    assert order(device("d", **properties), device("a")) == ["d", "a"]


def test_a_subsystem_stands_on_the_command_line_and_what_names_it_is_plugged() -> None:
    subsystem = option("-device", driver="nvme-subsys", id="s")
    plugs, at_start = split([device("d", subsys="s"), subsystem])
    assert at_start == [subsystem]
    assert [plug.name for plug in plugs] == ["d"]


def test_nothing_to_plug_is_nothing() -> None:
    assert split([]) == ([], [])


@pytest.mark.parametrize(
    ("one", "what"),
    [
        (Option("-device", "igb,id=x"), "-device igb,id=x cannot be plugged"),
        (Option("-netdev", '{"id": "x"'), '-netdev {"id": "x" cannot be plugged'),
        (Option("-device"), "-device None cannot be plugged"),
        (Option("-device", '{"driver": "igb"}'), '-device {"driver": "igb"} cannot be plugged'),
        (Option("-device", "1"), "-device 1 cannot be plugged"),
        (Option("-device", '"id"'), '-device "id" cannot be plugged'),
        (Option("-device", '["id"]'), '-device ["id"] cannot be plugged'),
    ],
)
def test_an_option_that_is_no_json_or_has_no_name_is_refused(one: Option, what: str) -> None:
    assert refused(netdev("n"), one) == f"{what}: write it as JSON with an id, or hotplug = false"


@pytest.mark.parametrize("name", ["-chardev", "-drive", "-m", "-DEVICE"])
def test_an_option_that_qmp_has_no_command_for_is_refused(name: str) -> None:
    expected = "(-device, -netdev, -blockdev, -object can): give the profile hotplug = false"
    assert refused(option(name, id="x")) == f"{name} cannot be plugged {expected}"


def test_a_circle_is_refused_with_the_names_in_it() -> None:
    told = refused(device("z"), device("a", bus="b"), device("b", bus="a"))
    assert told.startswith("these refer to each other in a circle: ")
    assert set(told.partition("circle: ")[2].split(", ")) == {"a", "b"}


@pytest.mark.parametrize(
    ("name", "command"),
    [("-device", "device_add"), ("-netdev", "netdev_add"), ("-blockdev", "blockdev-add"), ("-object", "object-add")],
)
def test_each_option_has_its_own_command_that_takes_its_properties_as_they_stand(name: str, command: str) -> None:
    properties = {"id": "x", "some-thing": [1, {"a": True}], "node-name": "y"}
    ((plug,), _) = split([option(name, **properties)])
    assert plug == Plug("x", name, properties)
    assert (plug.command, plug.is_device) == (command, name == "-device")


def test_a_vf_is_known_by_the_pf_that_it_names() -> None:
    plugs, _ = split([device("vf", **{"sriov-pf": "pf"}), device("pf"), netdev("n")])
    assert [plug.name for plug in plugs if plug.is_vf] == ["vf"]


@pytest.mark.xfail(strict=True, reason="graphlib sorts by levels: what needs nothing overtakes what needs a backend")
def test_what_needs_a_backend_is_not_overtaken_by_what_stands_after_it() -> None:
    assert order(netdev("n"), device("fn1", netdev="n"), device("fn0")) == ["n", "fn1", "fn0"]


@pytest.mark.xfail(strict=True, reason="one dictionary holds all names, though QEMU keeps devices and netdevs apart")
def test_a_device_may_have_the_name_of_its_backend_as_the_base_machines_nic_has() -> None:
    plugs, _ = split([netdev("net0"), device("net0", netdev="net0")])
    assert [plug.option for plug in plugs] == ["-netdev", "-device"]


def line_of(name: str) -> CommandLine:
    library = Library()
    profile = library.get(name)
    software = Software("tcg", Path("/k"), Path("/i"))
    return Renderer(library.folders).command_line(profile, profile.resolve({}), software, Wiring.by_hand())


@pytest.mark.parametrize("name", [name for name in Library().names() if Library().get(name).hotplug])
def test_of_every_built_in_profile_all_that_is_plugged_has_its_backend_and_its_pf_with_it(name: str) -> None:
    line = line_of(name)
    plugs, at_start = split(line.plugged)
    assert len(plugs) + len(at_start) == len(line.plugged)
    assert all(one.name == "-device" for one in at_start)
    here = {json.loads(one.argument or "")["id"] for one in (*line.machine, *at_start) if one.name == "-device"}
    before = {"pcie.0", *here}
    for plug in plugs:
        named = {plug.properties[key] for key in ("netdev", "bus", "subsys") if key in plug.properties}
        assert named <= before, plug.name
        before.add(plug.name)
    assert {plug.properties["sriov-pf"] for plug in plugs if plug.is_vf} <= before
    assert set(Library().get(name).pfs) <= before


@pytest.mark.parametrize(
    ("name", "plugged", "at_start"),
    [
        ("minimal", [], []),
        ("igb-sriov", ["net1", "igb0"], []),
        ("nvme-sriov", ["nvme0"], ["nvme-subsys"]),
        ("virtio-sriov", ["net31", "net32", "net30", "vvf1", "vvf2", "vpf0"], []),
    ],
)
def test_what_a_built_in_profile_plugs(name: str, plugged: list[str], at_start: list[str]) -> None:
    plugs, rest = split(line_of(name).plugged)
    assert sorted(plug.name for plug in plugs) == sorted(plugged)
    assert [json.loads(one.argument or "")["driver"] for one in rest] == at_start
