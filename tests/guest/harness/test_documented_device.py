# SPDX-License-Identifier: GPL-2.0-or-later
"""The device that docs/devices.md writes: its files are taken from there, and its tests run as its reader would."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import paths
from harness.guest.guest import Guest

FILE = re.compile(r"^```\w+\n((?:# |\{# )([\w.]+)(?: #\})?\n.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block whose first line is a comment that names the file which it is."""
NAMES = ["counter.j2", "counter.py", "counter.toml", "test_attached.py", "test_counter.py"]


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """A folder with the files of the document."""
    text = (paths.docs() / "devices.md").read_text(encoding="utf-8")
    for content, name in FILE.findall(text):
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    return tmp_path


def test_the_documents_tests_pass(
    documented: Path, harness_test: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = harness_test("test_attached.py", "test_counter.py", "--profile-dir", ".", "--json", cwd=documented)
    found = {one["test"]: (one["outcome"], one["reason"]) for one in json.loads(done.stdout)["tests"]}
    assert found == {
        "test_attached.py::test_the_guest_sees_what_the_device_says[minimal]": ("PASS", ""),
        "test_counter.py::test_the_doorbell_copies_memory_and_raises_an_interrupt[counter-start=41]": ("PASS", ""),
    }
    assert done.returncode == 0
    assert len(list(documented.glob("build/runs/latest/*/device-counter0.jsonl"))) == 1


@pytest.mark.machine("minimal")
def test_lspci_reads_what_a_device_is_shown_to_hold(
    documented: Path, harness_command: tuple[str, ...], guest: Guest
) -> None:
    shown = subprocess.run(
        [*harness_command, "device", "show", "counter.py:Counter"],
        cwd=documented, capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    guest.put(shown, "/run/shown")
    read = guest.run("lspci -F /run/shown -vvv", check=True).stdout
    assert "Unassigned class [ff00]: Device 1234:c0de" in read
    assert "Capabilities: [40] Express (v2) Endpoint" in read
    assert "Capabilities: [7c] MSI-X: Enable- Count=1 Masked-" in read
