# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python devices of a machine: made, served, their log kept, their mistakes told once."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from lab import Lab

from harness.device.siov import SiovDevice
from harness.errors import ModelFailed
from harness.machine import devices
from harness.qemu.template import Wiring


def test_a_profiles_devices_are_made_with_its_parameters(lab: Lab) -> None:
    made = lab.spec("siov-two", total_sdis=77, second_total_sdis=5).devices()
    assert list(made) == ["siov0", "siov1"]
    assert [one.total_sdis for one in made.values() if isinstance(one, SiovDevice)] == [77, 5]


def test_a_profile_without_any_has_none(lab: Lab) -> None:
    assert lab.spec("igb-sriov").devices() == {}


def test_a_clone_is_told_of_its_own_sockets(lab: Lab) -> None:
    (plug,) = lab.spec("siov").plugs(Wiring("a", "b", "c", "d", devices="/run/mine"))
    assert plug.properties["socket"] == {"type": "unix", "path": "/run/mine/siov0.sock"}


def test_a_command_line_to_paste_says_what_has_to_run_before_it(lab: Lab) -> None:
    wiring = Wiring.by_hand()
    spec = lab.spec("siov-two", total_sdis=7, siov=False)
    first, second, *_ = spec.by_hand(spec.command_line(wiring), wiring).splitlines()
    for number, line in enumerate((first, second)):
        assert line.startswith("# first, in another terminal: harness device serve siov --socket ")
        assert f"--socket siov{number}.sock " in line
        assert " -p total_sdis=7 " in line
        assert "-p siov=off" in line
    igb = lab.spec("igb-sriov")
    assert not igb.by_hand(igb.command_line(wiring), wiring).startswith("#")


def test_a_device_is_served_while_the_block_lasts_and_its_log_is_kept(tmp_path: Path) -> None:
    device = SiovDevice()
    path, log = tmp_path / "s.sock", tmp_path / "log.jsonl"
    with devices.at_socket(device, path, log), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        device.read(7, 0, 2)
    assert not path.exists()
    (entry,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (entry["kind"], entry["value"]) == ("read", "0x1b36")


def test_a_log_that_cannot_be_written_is_nobodys_fault(tmp_path: Path) -> None:
    with devices.at_socket(SiovDevice(), tmp_path / "s.sock", tmp_path / "no" / "log.jsonl"):
        pass


def test_a_models_mistake_is_told_once() -> None:
    broken, sound = SiovDevice(), SiovDevice()
    broken.fail(ZeroDivisionError("in a hook"))
    with pytest.raises(ModelFailed, match="device model SiovDevice failed: ZeroDivisionError: in a hook"):
        devices.check([sound, broken])
    devices.check([sound, broken])
