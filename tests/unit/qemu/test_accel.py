# SPDX-License-Identifier: GPL-2.0-or-later
"""The choice of the accelerator, on hosts made of a few files, and the real probe on whatever host this is."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import Accel
from harness.errors import CouldNotRun, Stage
from harness.qemu import accel
from harness.qemu.accel import Choice, Host, Probed, choose, run_probe


def never() -> Probed:
    raise AssertionError("the probe must not run here")


def load(host: Host, module: str) -> None:
    (host.modules / module).mkdir()


def why_not(host: Host) -> str:
    """Give the reason for which `auto` falls back to TCG, having checked that `kvm` is refused for the same one."""
    choice = choose(Accel.AUTO, host)
    assert choice.name == "tcg"
    with pytest.raises(CouldNotRun) as refusal:
        choose(Accel.KVM, host)
    assert refusal.value.stage is Stage.QEMU
    assert str(refusal.value) == f"KVM is not usable: {choice.reason}, or use --accel tcg"
    assert "\n" not in choice.reason
    return choice.reason


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Make a host with a device and kvm_intel, on which the probe is as quick as hardware."""
    made = Host(device=tmp_path / "kvm", modules=tmp_path / "module", probe=lambda: 0.4)
    made.device.touch()
    made.modules.mkdir()
    load(made, "kvm_intel")
    return made


@pytest.mark.parametrize("wanted", [Accel.AUTO, Accel.KVM])
def test_kvm_is_used_where_the_probe_is_quick(host: Host, wanted: Accel) -> None:
    choice = choose(wanted, host)
    assert (choice.name, choice.options) == ("kvm", "kvm")
    assert "speed of hardware" in choice.reason


def test_kvm_amd_is_as_good_as_kvm_intel(host: Host) -> None:
    (host.modules / "kvm_intel").rename(host.modules / "kvm_amd")
    assert choose(Accel.AUTO, host).name == "kvm"


def test_tcg_that_was_asked_for_is_used_without_probing(host: Host) -> None:
    choice = choose(Accel.TCG, replace(host, probe=never))
    assert choice == Choice("tcg", "TCG was asked for")
    assert choice.options == "tcg,thread=multi"


def test_a_missing_device_is_said_to_be_missing(host: Host) -> None:
    host.device.unlink()
    assert f"{host.device} is missing: load kvm_intel or kvm_amd" in why_not(replace(host, probe=never))


def test_a_forbidden_device_is_named_with_the_group_to_join(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(path: Path, flags: int) -> int:
        assert (path, flags & os.O_ACCMODE) == (host.device, os.O_RDWR)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", forbid)
    assert "(Permission denied): add yourself to the group kvm" in why_not(replace(host, probe=never))


def test_a_device_without_a_driver_does_not_send_the_user_to_a_group(host: Host) -> None:
    host.device.unlink()
    host.device.mkdir()
    reason = why_not(replace(host, probe=never))
    assert "(Is a directory): load kvm_intel or kvm_amd" in reason
    assert "group" not in reason


def test_kvm_pvm_is_refused_even_beside_kvm_intel_and_without_probing(host: Host) -> None:
    load(host, "kvm_pvm")
    assert "is there, but kvm_pvm is loaded" in why_not(replace(host, probe=never))


def test_a_host_without_a_module_for_its_processor_is_refused_without_probing(host: Host) -> None:
    (host.modules / "kvm_intel").rename(host.modules / "kvm")
    assert "neither kvm_intel nor kvm_amd is loaded" in why_not(replace(host, probe=never))


def test_a_slow_guest_is_told_with_its_measured_time(host: Host) -> None:
    assert "1043 ns per turn" in why_not(replace(host, probe=lambda: 1043.21))


def test_the_slowest_turn_is_still_good(host: Host) -> None:
    assert choose(Accel.AUTO, replace(host, probe=lambda: accel.SLOWEST_TURN)).name == "kvm"
    assert choose(Accel.AUTO, replace(host, probe=lambda: accel.SLOWEST_TURN + 1)).name == "tcg"


def test_a_failed_probe_is_told_with_its_words(host: Host) -> None:
    assert "(KVM_CREATE_VM: No such device)" in why_not(replace(host, probe=lambda: "KVM_CREATE_VM: No such device"))


def say(text: str, code: int = 0) -> list[str]:
    return ["sh", "-c", 'printf %s "$0"; exit "$1"', text, str(code)]


def test_a_probe_answers_with_a_number() -> None:
    assert run_probe(say('{"turn_ns": 0.5}\n')) == 0.5


def test_a_probe_answers_with_its_error() -> None:
    assert run_probe(say('{"error": "no"}\n', 1)) == "no"


@pytest.mark.parametrize("output", ["Traceback:\nImportError: no harness", "[1]", '{"turn_ns": "x"}', ""])
def test_a_probe_that_answers_something_else_is_quoted_in_one_line(output: str) -> None:
    last = output.rpartition("\n")[2]
    assert run_probe(say(output, 7)) == f"the probe of KVM ended with code 7, saying {last!r}"


def test_a_probe_that_hangs_is_killed_in_time(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    start = time.monotonic()
    found = run_probe(["sh", "-c", 'echo $$ >"$0"; exec sleep 60', str(pid_file)], seconds=0.5)
    assert time.monotonic() - start < 30
    assert found == "the probe of KVM: nothing within 0.5 s"
    assert not Path("/proc", pid_file.read_text().strip()).exists()


def test_one_process_probes_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["first", "second"])
    monkeypatch.setattr(accel, "run_probe", lambda: next(answers))
    accel.probe_once.cache_clear()
    assert [accel.probe_once(), accel.probe_once()] == ["first", "first"]
    accel.probe_once.cache_clear()


def test_the_real_probe_ends_within_its_bound_and_answers_in_json() -> None:
    ended = subprocess.run(accel.PROBE, capture_output=True, text=True, timeout=accel.PROBE_TIMEOUT, check=False)
    match json.loads(ended.stdout):
        case {"turn_ns": float(turn_ns)}:
            assert (ended.returncode, turn_ns > 0) == (0, True)
        case {"error": str(error)}:
            assert (ended.returncode, error != "") == (1, True)
        case other:
            pytest.fail(f"neither form: {other!r}")
    assert isinstance(run_probe(), float | str)


def test_the_probe_of_a_device_that_is_not_kvm_fails_naming_what_it_did() -> None:
    code = "import pathlib, sys; from harness.qemu.kvm_probe import main; sys.exit(main(pathlib.Path('/dev/null')))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["error"].startswith("KVM_GET_API_VERSION: ")
