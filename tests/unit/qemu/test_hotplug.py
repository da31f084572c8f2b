# SPDX-License-Identifier: GPL-2.0-or-later
"""What is plugged, in which order, and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.qemu.hotplug import Plug, split
from harness.qemu.library import Library
from harness.qemu.options import Option
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
    "backend",
    [
        netdev("n"),
        option("-object", **{"qom-type": "rng-random", "id": "n"}),
        option("-blockdev", **{"driver": "null-co", "node-name": "n"}),
    ],
    ids=["netdev", "object", "blockdev"],
)
def test_a_backend_is_plugged_before_its_device_whichever_the_profile_names_first(backend: Option) -> None:
    user = device("d", uses="n")
    assert order(backend, user) == order(user, backend) == ["n", "d"]


def test_a_filter_is_plugged_after_its_netdev_and_other_objects_first() -> None:
    rng = option("-object", **{"qom-type": "rng-random", "id": "r"})
    dump = option("-object", **{"qom-type": "filter-dump", "id": "f", "netdev": "n"})
    block = option("-blockdev", **{"driver": "null-co", "node-name": "b"})
    names = order(dump, device("d"), block, netdev("n"), rng)
    assert names.index("n") < names.index("f") < names.index("d")
    assert names.index("r") < names.index("b") < names.index("n")


def test_what_needs_nothing_stays_in_the_order_of_the_profile() -> None:
    assert order(*map(device, "dbca")) == list("dbca")


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


@pytest.mark.parametrize("two", [(device("a"), device("a")), (netdev("a"), device("d"), netdev("a"))])
def test_two_of_a_kind_with_one_id_are_refused_as_qemu_would(two: tuple[Option, ...]) -> None:
    assert refused(*two) == f"two of {two[0].name} have the id a"


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


def test_what_needs_a_backend_is_not_overtaken_by_what_stands_after_it() -> None:
    assert order(netdev("n"), device("fn1", netdev="n"), device("fn0")) == ["n", "fn1", "fn0"]


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
    assert [plug.name for plug in plugs] == plugged
    assert [json.loads(one.argument or "")["driver"] for one in rest] == at_start
