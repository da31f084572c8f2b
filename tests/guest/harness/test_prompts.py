# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python program given to `harness shell`: the machine's objects are at hand, by the names of a test's fixtures."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.machine.machine import Machine
from harness.outcome import Exit

PROGRAM = """\
import sys
if __name__ == "__main__":
    print(sys.modules["__main__"] is not None, end=" ")
print(machine.spec.profile.name, guest.run(["uname", "-s"]).stdout.strip(), pf is pfs[0], qmp is not None)
print("overlay" in globals() and overlay.config["sriov_total_vfs"])
"""


@pytest.mark.machine("minimal")
@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("", Exit.OK),
        ("raise AssertionError('mine')", Exit.FAIL),
        ("raise LookupError('mine')", Exit.ERROR),
        ("from harness.errors import UsageError as Error; raise Error('Error: mine')", Exit.USAGE),
    ],
)
def test_a_program_has_what_a_test_has(
    machine: Machine, harness_command: tuple[str, ...], tmp_path: Path, last: str, code: int
) -> None:
    qemu = machine.spec.parts.qemu
    done = subprocess.run(
        [*harness_command, "shell", "igb-sriov", "--python", "--qemu", str(qemu.path)], cwd=tmp_path,
        input=f"{PROGRAM}{last}\n", capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "True igb-sriov Linux True True"
    assert second == ("8" if qemu.has_overlay else "False")
    assert ("Error: mine" in done.stderr) == bool(code)
