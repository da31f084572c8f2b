# SPDX-License-Identifier: GPL-2.0-or-later
"""Clones: as good as a boot, each its own, and what becomes of their devices."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import config
from harness.bench.clones import crowd
from harness.guest.guest import Guest
from harness.guest.pci import Function
from harness.judge import Judge, KernelReported
from harness.machine.checkpoint import Checkpoint
from harness.machine.machine import Machine
from harness.machine.parts import Store
from harness.machine.spec import Spec
from harness.machine.start import Starter

BOTH_WAYS = pytest.mark.parametrize("start", ["clone", pytest.param("cold", marks=pytest.mark.cold)])
UNWANTED = "summary = 'a device that no driver wants'\npfs = ['edu0']\n"
UNWANTED_TEMPLATE = """{% extends "bases/q35.j2" %}
{% block plugged %}
-device {"driver": "edu", "id": "edu0", "bus": "rp1"}
{% endblock %}
"""


@BOTH_WAYS
@pytest.mark.machine("minimal")
def test_the_clock_is_right(machine: Machine, guest: Guest, start: str) -> None:
    assert machine.start == start
    before = int(time.time())
    there = int(guest.run("date +%s", check=True).stdout)
    assert before <= there <= time.time()


@BOTH_WAYS
@pytest.mark.machine("minimal")
def test_ssh_is_there_for_others_than_the_harness(machine: Machine, start: str) -> None:
    assert machine.start == start
    with socket.create_connection(("127.0.0.1", machine.ssh_port), timeout=10) as connection:
        assert connection.recv(8) == b"SSH-2.0-"


@BOTH_WAYS
@pytest.mark.machine("nvme-sriov")
def test_the_drivers_of_all_pluggable_devices_are_loaded(guest: Guest, start: str) -> None:
    del start
    drivers = guest.run("ls /sys/bus/pci/drivers /sys/bus/virtio/drivers", check=True).stdout.split()
    assert {"igb", "nvme", "virtio_net"} <= set(drivers)


@BOTH_WAYS
@pytest.mark.machine("nvme-sriov")
def test_nobody_is_logged_in_but_the_test(guest: Guest, start: str) -> None:
    del start
    processes = guest.run("ps -o args", check=True).stdout.splitlines()
    servers = [line for line in processes if line.startswith("dropbear ")]
    assert sorted(line.split()[1] for line in servers) == ["-i", "-s"], "the test's own, and the one that listens"


@pytest.mark.machine("minimal")
def test_two_clones_draw_different_random_numbers(machine: Machine, boot: Callable[[str], Machine]) -> None:
    drawn = [one.guest.run("head -c 16 /dev/urandom | xxd -p; cat /proc/sys/kernel/random/boot_id", check=True).stdout
             for one in (machine, boot("minimal"))]  # fmt: skip
    assert not set(drawn[0].split()) & set(drawn[1].split())
    assert "crng reseeded due to virtual machine fork" in machine.guest.run("dmesg", check=True).stdout


@pytest.mark.machine("minimal")
def test_what_one_clone_writes_no_other_sees(machine: Machine, boot: Callable[[str], Machine]) -> None:
    machine.guest.put(b"mine", "/root/note")
    assert boot("minimal").guest.run("test -e /root/note").status == 1


@BOTH_WAYS
@pytest.mark.machine("nvme-sriov")
@pytest.mark.machine("igb-sriov")
def test_a_pf_goes_with_its_vfs_and_comes_back_without(machine: Machine, pf: Function, start: str) -> None:
    del start
    driver, (device,) = pf.driver, machine.spec.profile.pfs
    pf.numvfs = 2
    assert len(pf.vfs) == 2
    machine.unplug(device)
    assert {function.bdf.bus for function in machine.guest.functions()} == {0}
    machine.plug(device)
    assert (pf.driver, pf.numvfs, pf.vfs) == (driver, 0, [])


def own_profile(folder: Path, more: str = "") -> tuple[str, ...]:
    """Write the profile `unwanted` and a test of it, and give the arguments to run that."""
    profiles = folder / "profiles"
    profiles.mkdir()
    (profiles / "unwanted.toml").write_text(UNWANTED + more)
    (profiles / "unwanted.j2").write_text(UNWANTED_TEMPLATE)
    (folder / "test_unwanted.py").write_text(
        "import pytest\n\n\n@pytest.mark.machine('unwanted')\ndef test_declined(machine, pf):\n"
        "    assert pf.driver is None\n    print(machine.start)\n"
    )
    return ("test_unwanted.py", "--profile-dir", str(profiles), "-rP")


@pytest.mark.parametrize(("more", "start"), [("", "clone"), ("hotplug = false\n", "cold")])
@pytest.mark.parametrize("kernel", ["debian-6.12", "debian-7.2"])
def test_a_device_that_no_driver_wants_is_ready_too(
    harness_test: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, kernel: str, more: str, start: str
) -> None:
    """Linux 6.12 probes a plugged device at once, 7.2 asynchronously: there, declining it is known by other means."""
    done = harness_test(*own_profile(tmp_path, more), "--kernel", kernel, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{start}\n" in done.stdout


@pytest.fixture(scope="module")
def spec() -> Spec:
    """Describe the smallest machine."""
    store = Store(config.load())
    profile = store.library.get("minimal")
    return Spec(profile, profile.resolve({}), store.parts(), store.library.folders)


@pytest.fixture
def starter(tmp_path: Path) -> Starter:
    """Give what starts machines."""
    settings = config.load()
    return Starter(Store(settings).cache, lambda: tmp_path, settings.boot_timeout)


def test_many_clones_at_a_time_are_all_there_and_leave_nothing(starter: Starter, spec: Spec, tmp_path: Path) -> None:
    seen = crowd(starter, spec, tmp_path, 12, 4, lambda: None)
    assert seen.lost == ()
    assert (seen.changed, seen.processes_left, seen.files_left) == (False, 0, 0)


def test_what_the_base_machine_complained_of_at_boot_counts_against_every_clone(
    starter: Starter, spec: Spec, tmp_path: Path
) -> None:
    source = starter.source(spec)
    assert source is not None
    copy = Checkpoint(tmp_path / "copy")
    copy.folder.mkdir()
    for path in source.folder.iterdir():
        (copy.folder / path.name).symlink_to(path)
    copy.console.unlink()
    said = source.console.read_bytes()
    copy.console.write_bytes(
        said + b"[    9.999999] WARNING: CPU: 0 PID: 1 at drivers/pci/iov.c:1 sriov_enable+0x1/0x2\r\n"
    )
    machine, judge = Machine(spec, tmp_path), Judge()
    try:
        machine.clone(copy, 60)
        judge.machines.append(machine)
        assert isinstance(judge.complaint(), KernelReported)
    finally:
        machine.close()
    assert (tmp_path / "console.log").read_bytes().startswith(said)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a cache that shares all but checkpoints with the real one, which it leads to."""
    real = config.load().cache_dir
    own = tmp_path / "cache"
    own.mkdir(mode=0o700)
    for kind in real.iterdir():
        if kind.name not in ("checkpoints", "locks"):
            (own / kind.name).symlink_to(kind)
    monkeypatch.setenv("IOV_HARNESS_CACHE_DIR", str(own))
    return own


def hello(harness: tuple[str, ...], cwd: Path) -> subprocess.Popen[str]:
    command = [*harness, "shell", "minimal", "--", "echo", "hello"]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """Give what it told on standard error, once it has said hello."""
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (0, "hello\n"), err
    return err


def altered(ram: Path) -> None:
    with ram.open("r+b") as stream:
        stream.seek(64 << 20)
        stream.write(b"\xff" * 4096)


def cut(ram: Path) -> None:
    ram.with_name("state").write_bytes(b"QEVM")


@pytest.mark.parametrize("harm", [altered, cut])
def test_a_damaged_checkpoint_is_made_anew(
    harness_command: tuple[str, ...], own_cache: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    assert "boot, for a checkpoint: done" in said(hello(harness_command, tmp_path))
    (ram,) = own_cache.glob("checkpoints/*/ram")
    was = ram.stat().st_ino
    harm(ram)
    assert "boot, for a checkpoint: done" in said(hello(harness_command, tmp_path))
    assert ram.stat().st_ino != was
    assert "checkpoint" not in said(hello(harness_command, tmp_path)), "and the new one is used"


def test_of_two_that_need_the_same_checkpoint_one_makes_it(
    harness_command: tuple[str, ...], own_cache: Path, tmp_path: Path
) -> None:
    errors = [said(process) for process in [hello(harness_command, tmp_path) for _ in range(2)]]
    assert sum("boot, for a checkpoint: done" in error for error in errors) == 1, errors
    assert len(list(own_cache.glob("checkpoints/*"))) == 1


SHARING = """
import pytest

pytestmark = [pytest.mark.machine("minimal"), pytest.mark.usefixtures("shared_machine")]


def test_first(guest):
    guest.put(b"", "/root/note")


def test_second(guest):
    assert guest.run("test -e /root/note").status == 0
    guest.run("echo c >/proc/sysrq-trigger")


def test_third(guest):
    assert guest.run("test -e /root/note").status == 1, "a panic costs only the test that caused it"
"""


def test_a_shared_machine_is_shared_until_it_is_lost(
    harness_test: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "test_sharing.py").write_text(SHARING)
    done = harness_test("test_sharing.py", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 2 passed" in done.stdout
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.stdout


def test_the_checkpoint_is_as_it_was(starter: Starter, spec: Spec, tmp_path: Path) -> None:
    source = starter.source(spec)
    assert source is not None
    ram = source.ram
    before = hashlib.sha256(ram.read_bytes()).digest()
    with starter.running(spec, tmp_path) as machine:
        machine.guest.run("dd if=/dev/zero of=/root/much bs=1M count=64", check=True)
    assert hashlib.sha256(ram.read_bytes()).digest() == before
