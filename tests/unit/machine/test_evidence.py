# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of machines that went wrong in the worst moment: that it is asked for never makes anything worse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.guest.ssh import GuestTimeout
from harness.machine.evidence import gather
from harness.qemu.qmp import QmpLost


def machine(**more: Any) -> Any:
    given = {"debug_socket": Path("debug.sock"), "loss": None, "health": SimpleNamespace(ready=True, exit=None)}
    return SimpleNamespace(**{**given, **more})


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_machine_that_was_never_started_has_nothing_to_tell(tmp_path: Path) -> None:
    gather(machine(debug_socket=None, health=SimpleNamespace(ready=False, exit=None)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_guest_that_answers_is_asked(tmp_path: Path) -> None:
    guest = SimpleNamespace(run=lambda words, **_: SimpleNamespace(stdout=f"\x1b]0;owned\x07{words[0]} says"))
    gather(machine(guest=guest), tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "dmesg.txt": "dmesg says\n", "lspci.txt": "lspci says\n"
    }  # fmt: skip


def test_a_silent_guest_is_asked_once_and_then_qemu(tmp_path: Path) -> None:
    asked: list[str] = []

    def run(words: list[str], **_: Any) -> Any:
        asked.append(words[0])
        raise GuestTimeout("nothing within 15 s")

    qmp = SimpleNamespace(execute=lambda _, command_line: f"{command_line} it is")
    gather(machine(guest=SimpleNamespace(run=run), qmp=qmp, introspect=failing(GuestTimeout("no"))), tmp_path)
    assert asked == ["dmesg"]
    assert "info registers -a it is" in (tmp_path / "cpus.txt").read_text()
    assert "info pci it is" in (tmp_path / "lspci.txt").read_text()
    assert (tmp_path / "dmesg.txt").read_text() == "(not to be had: no)\n"


@pytest.mark.parametrize("error", [QmpLost("gone"), OSError("disk"), GuestTimeout("late")])
def test_what_fails_is_said_and_raised_never(tmp_path: Path, error: Exception) -> None:
    gather(
        machine(loss="panic", qmp=SimpleNamespace(execute=failing(error)), introspect=failing(error)), tmp_path
    )  # fmt: skip
    assert (tmp_path / "cpus.txt").read_text().startswith("(not to be had")
    gather(
        machine(loss="panic", qmp=SimpleNamespace(execute=failing(error)), introspect=failing(error)), tmp_path / "no"
    )
