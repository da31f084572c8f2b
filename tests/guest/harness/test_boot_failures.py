# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that do not come up: the panic's text at once, and the blame where it belongs."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import config
from harness.errors import CouldNotRun, Stage
from harness.machine.machine import Spec, booted
from harness.machine.parts import Store

PROVOKED = Path(__file__).with_name("provoked.py")
HarnessTest = Callable[..., subprocess.CompletedProcess[str]]
NO_INIT = "rdinit=/nowhere"
PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs"


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(config.load())


def test_a_panic_at_boot_is_told_within_two_seconds(store: Store, tmp_path: Path) -> None:
    profile = store.library.get("minimal")
    spec = Spec(profile, profile.resolve({"append": NO_INIT}), store.parts(), store.library.folders)
    with pytest.raises(CouldNotRun) as caught, booted(spec, tmp_path, 90):
        pass
    told = time.time()
    assert told - (tmp_path / "console.log").stat().st_mtime < 2
    assert caught.value.stage is Stage.KERNEL
    assert PANIC in str(caught.value)
    assert PANIC in caught.value.detail


def test_a_kernel_that_panics_where_the_reference_boots_fails(
    store: Store, harness_test: HarnessTest, tmp_path: Path
) -> None:
    reference = store.kernel("debian-6.12")
    mine = tmp_path / "vmlinuz"
    shutil.copy(reference.image, mine)
    done = harness_test(
        str(PROVOKED), "-k", "misses_a_kernel", "--kernel", str(mine), "--modules", str(reference.modules), "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (verdict,) = json.loads(done.stdout)["tests"]
    assert verdict["outcome"] == "FAIL"
    assert PANIC in verdict["reason"]
    assert "the reference kernel debian-6.12 boots on the same machine" in verdict["reason"]
    assert "Call Trace" in verdict["detail"], "the last lines of its console"


def test_a_kernel_without_a_driver_for_its_nic_is_lost_in_init_and_says_so(
    store: Store, harness_test: HarnessTest, tmp_path: Path
) -> None:
    mine = tmp_path / "vmlinuz"
    shutil.copy(store.kernel("debian-6.12").image, mine)
    done = harness_test(str(PROVOKED), "-k", "test_passes", "--kernel", str(mine), "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    (verdict, *_) = json.loads(done.stdout)["tests"]
    assert (verdict["outcome"], verdict["stage"]) == ("MISS", "init")
    assert "no NIC has the address" in verdict["reason"]
    assert "iov-harness: init" in verdict["detail"], "the last lines of its console"
