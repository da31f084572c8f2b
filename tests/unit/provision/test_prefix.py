# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of packages whose loader tells how it was called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from makings import script

from harness.provision.prefix import Prefix

LIBRARIES = "usr/lib/x86_64-linux-gnu"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a tree with a space in its name, whose loader prints its arguments, a line each."""
    script(tmp_path / "my root/usr/lib64/ld-linux-x86-64.so.2", 'printf "%s\\n" "$@"\n')
    return tmp_path / "my root"


def called(argv: list[str]) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_program_runs_through_the_loader_and_with_the_libraries_of_its_tree(root: Path) -> None:
    argv = Prefix(root).argv("usr/bin/lspci")
    assert called([*argv, "-n"]) == [
        "--argv0", "lspci",
        "--library-path", f"{root}/{LIBRARIES}:{root}/{LIBRARIES}/systemd",
        f"{root}/usr/bin/lspci", "-n",
    ]  # fmt: skip


def test_a_program_may_be_called_by_another_name(root: Path) -> None:
    assert called(Prefix(root).argv("usr/bin/kmod", name="depmod"))[:2] == ["--argv0", "depmod"]
