# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines of one machine: cold, as a base machine, and as a clone of that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from harness.qemu.options import Option
from harness.qemu.template import Wiring

WIRING = Wiring.by_hand()
RAM = Path("/cache/my ram,1")
WITH_RAM = Option("-machine", "memory-backend=ram")


def devices(line: tuple[Option, ...]) -> set[str]:
    return {json.loads(one.argument or "")["driver"] for one in line if one.name == "-device"}


def memory(line: tuple[Option, ...]) -> dict[str, Any]:
    (backend,) = [json.loads(one.argument or "") for one in line if one.name == "-object"]
    assert WITH_RAM in line
    assert backend.pop("qom-type") == "memory-backend-file"
    assert backend.pop("id") == "ram"
    return dict(backend)


def test_a_cold_machine_has_all_its_devices_and_memory_of_its_own(lab: Lab) -> None:
    line = lab.spec("nvme-sriov", append="debug").command_line(WIRING)
    assert {"nvme", "nvme-subsys", "pcie-root-port"} <= devices(line)
    assert WITH_RAM not in line
    (words,) = [one.argument or "" for one in line if one.name == "-append"]
    assert words.endswith(" debug")


def test_a_base_machine_has_nothing_of_what_is_plugged_and_writes_its_memory_to_the_file(lab: Lab) -> None:
    line = lab.spec("nvme-sriov", memory=1024).base_line(WIRING, RAM)
    assert not {"nvme", "nvme-subsys"} & devices(line)
    assert memory(line) == {"size": 1 << 30, "mem-path": str(RAM), "share": True}
    assert not {"-incoming", "-S"} & {one.name for one in line}


def test_a_clone_awaits_a_state_and_leaves_the_file_as_it_is(lab: Lab) -> None:
    spec = lab.spec("nvme-sriov", memory=1024)
    line = spec.clone_line(WIRING, RAM)
    assert memory(line) == {"size": 1 << 30, "mem-path": str(RAM), "share": False, "readonly": True, "rom": "off"}
    assert line[-2:] == (Option("-incoming", "defer"), Option("-S"))
    assert devices(line) == devices(spec.base_line(WIRING, RAM)) | {"nvme-subsys"}


@pytest.mark.parametrize("profile", ["igb-sriov", "nvme-sriov", "virtio-sriov", "minimal"])
def test_a_clone_and_what_is_plugged_into_it_are_together_the_cold_machine(lab: Lab, profile: str) -> None:
    """But for the memory, and that the base machine is first, as it was when its state was saved."""
    spec = lab.spec(profile)
    clone, base, cold = spec.clone_line(WIRING, RAM), spec.base_line(WIRING, RAM), spec.command_line(WIRING)
    machine = base[: base.index(WITH_RAM) - 1]
    assert clone[: len(machine)] == machine == cold[: len(machine)]
    at_start = clone[len(machine) : clone.index(WITH_RAM) - 1]
    plugs = [Option(plug.option, json.dumps(plug.properties)) for plug in spec.plugs()]
    rest = cold[len(machine) :]
    assert sorted(map(repr, [*at_start, *plugs])) == sorted(map(repr, rest))
