# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that do not come up: the panic's text at once, and the blame where it belongs."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import zstandard

from harness import config
from harness.errors import MachineLost, Stage
from harness.machine.attempts import brought_up
from harness.machine.parts import Store
from harness.machine.spec import Spec
from harness.provision.image import SetupHeader
from harness.provision.kernel import REFERENCE

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
    with ExitStack() as stack:
        with pytest.raises(MachineLost) as caught:
            brought_up(stack, spec, tmp_path, lambda machine: machine.boot(90))
        told = time.time()
    assert told - (tmp_path / "console.log").stat().st_mtime < 2
    assert caught.value.stage is Stage.KERNEL
    assert PANIC in str(caught.value)
    assert PANIC in caught.value.detail


@pytest.fixture
def broken(store: Store, tmp_path: Path) -> Path:
    """Make a kernel that looks for its first program under a wrong name, finds none, and panics."""
    image = store.kernel(REFERENCE).image.read_bytes()
    header = SetupHeader.read(image)
    assert header is not None
    packed = image[header.payload_at : header.payload_at + header.payload_bytes]
    vmlinux = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    assert b"/init\0" in vmlinux
    path = tmp_path / "vmlinux"
    path.write_bytes(vmlinux.replace(b"/init\0", b"/tini\0"))
    return path


def test_a_kernel_that_panics_where_the_reference_boots_fails(
    broken: Path, harness_test: HarnessTest, tmp_path: Path
) -> None:
    done = harness_test(str(PROVOKED), "-k", "test_passes[", "--kernel", str(broken), "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    (verdict,) = json.loads(done.stdout)["tests"]
    assert verdict["outcome"] == "FAIL"
    assert PANIC in verdict["reason"]
    assert f"the reference kernel {REFERENCE} boots on the same machine" in verdict["reason"]
    assert "Call Trace" in verdict["detail"], "the last lines of its console"
    assert verdict["machine"]["kernel"] == str(broken)


def test_a_kernel_that_panics_where_the_reference_does_so_too_is_a_miss(
    store: Store, harness_test: HarnessTest, tmp_path: Path
) -> None:
    reference = store.kernel(REFERENCE)
    mine = tmp_path / "vmlinuz"
    shutil.copy(reference.image, mine)
    done = harness_test(
        str(PROVOKED), "-k", "misses_a_kernel", "--kernel", str(mine), "--modules", str(reference.modules), "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    (verdict,) = json.loads(done.stdout)["tests"]
    assert (verdict["outcome"], verdict["stage"]) == ("MISS", "kernel")
    assert PANIC in verdict["reason"]


def test_a_kernel_without_a_driver_for_its_nic_is_lost_in_init_and_says_so(
    store: Store, harness_test: HarnessTest, tmp_path: Path
) -> None:
    mine = tmp_path / "vmlinuz"
    shutil.copy(store.kernel(REFERENCE).image, mine)
    done = harness_test(str(PROVOKED), "-k", "test_passes", "--kernel", str(mine), "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    (verdict, *_) = json.loads(done.stdout)["tests"]
    assert (verdict["outcome"], verdict["stage"]) == ("MISS", "init")
    assert "no NIC has the address" in verdict["reason"]
    assert "iov-harness: init" in verdict["detail"], "the last lines of its console"
