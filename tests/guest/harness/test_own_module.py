# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel module of a test's own, with parameters of every kind, from its sources to the guest's sysfs."""

from __future__ import annotations

from errno import ENOENT
from pathlib import Path

import pytest

from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.pytest_plugin.fixtures import LoadModule

SOURCE = """\
#include <linux/module.h>

static char *text;
module_param(text, charp, 0444);
static int number;
module_param(number, int, 0444);
static bool on;
module_param(on, bool, 0444);
MODULE_LICENSE("GPL");
"""
PARAMETERS = "/sys/module/its_own/parameters"


@pytest.mark.machine("minimal")
def test_a_module_from_a_folder_is_loaded_with_its_parameters(
    guest: Guest, guest_module: LoadModule, tmp_path: Path
) -> None:
    folder = tmp_path / "its-own"
    folder.mkdir()
    (folder / "its-own.c").write_text(SOURCE)
    (folder / "Kbuild").write_text("obj-m := its-own.o\n")
    loaded = guest_module(folder, text="a b", number=-3, on=True)
    values = [guest.read(f"{PARAMETERS}/{name}") for name in ("text", "number", "on")]
    assert values == ["a b\n", "-3\n", "Y\n"]
    assert sorted(path.name for path in folder.iterdir()) == ["Kbuild", "its-own.c"]
    loaded.unload()
    with raises_errno(ENOENT):
        guest.read(f"{PARAMETERS}/text")
