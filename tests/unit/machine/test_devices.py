# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python devices of a machine: made, served, their log kept, their mistakes told once."""

from __future__ import annotations

import importlib
import json
import socket
import threading
from pathlib import Path

import pytest
from lab import Lab

from harness.device import device as device_module
from harness.device import models
from harness.device.siov import SiovDevice
from harness.errors import ModelFailed, UsageError
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


MODEL = """
from harness.device.config_space import Identity
from harness.device.device import Device

class Mine(Device):
    def __init__(self):
        {body}
"""


def model(folder: Path, body: str, name: str = "mine_model.py") -> str:
    (folder / name).write_text(MODEL.format(body=body))
    return f"{folder / name}:Mine"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise SystemExit(3)", r"SystemExit: 3 \(.*mine_model\.py, line 7\)"),
        ("pass", r"Mine\.__init__\(\) does not call super\(\)\.__init__\(\.\.\.\)"),
        ("super().__init__(Identity(1, 2), 7)", r"TypeError: .* \(.*mine_model\.py, line 7\)"),
    ],
    ids=["ends", "forgets", "blunders"],
)
def test_a_model_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, body: str, told: str) -> None:
    name = model(tmp_path, body)
    with pytest.raises(UsageError, match=rf"^device model .*:Mine: {told}$"), devices.blamed(name):
        models.find(name).make({})


def test_a_class_that_a_test_has_imported_is_the_profiles_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = model(tmp_path, "super().__init__(Identity(1, 2))", "imported_model.py")
    monkeypatch.syspath_prepend(tmp_path)
    imported = importlib.import_module("imported_model")
    assert isinstance(models.find(name).make({}), imported.Mine)


@pytest.mark.parametrize(("given", "told"), [(SiovDevice, "SiovDevice is a class"), (7, "7 is no harness.device")])
def test_what_is_no_device_is_not_attached(given: object, told: str) -> None:
    with pytest.raises(UsageError, match=f"^attach: {told}"):
        models.check(given, "attach")


def test_a_hook_for_which_qemu_does_not_wait_is_its_models_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "QEMUS_PATIENCE", 0.01)
    slow = SiovDevice()
    slow.bars[0].on_read("control", lambda _: threading.Event().wait(0.05) or 1)
    slow.read(0, slow.bars[0].register("control").offset, 4)
    with pytest.raises(ModelFailed, match=r"a hook took 0\.\d s; QEMU waits 0\.01 s"):
        devices.check([slow])
