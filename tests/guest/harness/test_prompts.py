# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python program given to `harness shell`: the machine's objects are at hand, by the names of a test's fixtures."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PROGRAM = """\
print(machine.spec.profile.name, guest.run(["uname", "-s"]).stdout.strip(), pf is pfs[0], qmp is not None)
print("overlay" in globals() and overlay.config["sriov_total_vfs"])
"""


@pytest.mark.parametrize(("program", "code"), [(PROGRAM, 0), (f"{PROGRAM}raise LookupError('mine')\n", 4)])
def test_a_program_has_what_a_test_has(
    harness_command: tuple[str, ...], tmp_path: Path, program: str, code: int
) -> None:
    done = subprocess.run(
        [*harness_command, "shell", "igb-sriov", "--python"], cwd=tmp_path, input=program, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "igb-sriov Linux True True"
    assert second in ("False", "8")  # as QEMU has overlays or not
    assert ("LookupError: mine" in done.stderr) == bool(code)
