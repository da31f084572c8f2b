# SPDX-License-Identifier: GPL-2.0-or-later
"""A sound request that this machine cannot carry out: exit code 3, and one clear line with what would help."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from commandline import NO_MIRROR, Done, Terminal, fake_qemu

from harness.config import Accel
from harness.qemu import accel

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="there is no apt-get here to fail")


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capfd)


def last_line(done: Done) -> str:
    """Give the line that says why the command could not run; what it was about to fetch stands before it."""
    assert done.code == 3, done
    assert done.out == ""
    assert "Traceback" not in done.err
    *progress, line = done.err.splitlines()
    assert not any(one.startswith("harness: ") for one in progress)
    return line.removeprefix("harness: ")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system on which nothing fits any more; only root can make one."""
    folder = tmp_path / "full"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mount = subprocess.run(command, check=False, capture_output=True)
    if mount.returncode != 0:
        pytest.skip(f"mount refuses to make a small disk: {mount.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match="No space left"):
            (folder / "filling").write_bytes(bytes(2**20))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_kvm_that_is_not_there_is_refused_with_what_would_help(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, host = accel.choose, accel.Host(device=terminal.folder / "kvm")

    def choose(wanted: Accel) -> accel.Choice:
        return real(wanted, host)

    monkeypatch.setattr(accel, "choose", choose)
    line = last_line(terminal.harness("shell", "minimal", "--accel", "kvm"))
    assert line.startswith(f"KVM is not usable: {host.device} is missing: load kvm_intel or kvm_amd")
    assert line.endswith("or use --accel tcg")
    assert terminal.left() == []


@needs_apt
def test_without_a_network_the_mirror_and_the_reason_are_named(terminal: Terminal) -> None:
    line = last_line(terminal.harness("provision"))
    assert line.startswith(f"cannot fetch Debian's package lists from {NO_MIRROR}: ")
    assert re.search("Connection refused|Unable to connect", line), "apt's own words, older or newer"
    assert line.endswith("or from the setting debian_mirror)")
    assert terminal.left() == []


@needs_apt
@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("file://{}", "does not have a Release file"),
        ("no-mirror", "Malformed entry"),
    ],
)
def test_a_mirror_that_is_none_is_named(terminal: Terminal, mirror: str, reason: str) -> None:
    terminal.env(IOV_HARNESS_DEBIAN_MIRROR=mirror.format(terminal.folder))
    line = last_line(terminal.harness("shell", "minimal"))
    assert line.startswith(f"cannot fetch Debian's package lists from {mirror.format(terminal.folder)}: ")
    assert reason in line


@pytest.mark.parametrize("command", ["provision", "cache list", "cache prune"])
@pytest.mark.parametrize("cache", ["file", "file/cache"])
def test_a_cache_that_is_no_folder_is_named(terminal: Terminal, command: str, cache: str) -> None:
    (terminal.folder / "file").write_text("")
    terminal.env(IOV_HARNESS_CACHE_DIR=terminal.folder / cache)
    line = last_line(terminal.harness(*command.split()))
    assert line == f"the cache {terminal.folder / cache} is not a folder: set IOV_HARNESS_CACHE_DIR to one"


def test_a_cache_that_cannot_be_made_is_named(terminal: Terminal) -> None:
    terminal.env(IOV_HARNESS_CACHE_DIR="/proc/cache")
    line = last_line(terminal.harness("provision"))
    assert line.startswith("the cache /proc/cache ")
    assert "): set IOV_HARNESS_CACHE_DIR to a" in line


def test_a_full_disk_below_the_cache_is_named(terminal: Terminal, full_disk: Path) -> None:
    terminal.env(IOV_HARNESS_CACHE_DIR=full_disk / "cache")
    line = last_line(terminal.harness("provision"))
    assert line.startswith(f"no space left for the cache {full_disk / 'cache'}: try `harness cache prune`, or set")
    assert list(full_disk.glob("cache/*/.draft*")) == []


def test_a_full_disk_below_the_runs_is_named(
    terminal: Terminal, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = terminal.stand_ins()
    with monkeypatch.context() as there:
        there.chdir(full_disk)
        done = terminal.harness("shell", "minimal", *flags)
    line = last_line(done)
    assert line.startswith(f"output folder {full_disk / 'build/runs'}")
    assert line.endswith(" cannot be written: No space left on device")


@pytest.mark.parametrize("command", ["shell minimal", "test", "bench boot", "demo"])
def test_a_folder_for_runs_that_cannot_be_is_named(terminal: Terminal, command: str) -> None:
    (terminal.cwd / "build").write_text("")
    line = last_line(terminal.harness(*command.split(), *terminal.stand_ins()))
    assert line == f"output folder {terminal.cwd / 'build/runs'} cannot be written: Not a directory"


@pytest.mark.parametrize("runtime", ["file", "nowhere", "x" * 100])
def test_a_runtime_folder_that_is_of_no_use_is_passed_over(terminal: Terminal, runtime: str) -> None:
    """The machine gets as far as the start of QEMU, which is of no use either."""
    (terminal.folder / "file").write_text("")
    (terminal.folder / ("x" * 100)).mkdir()
    terminal.env(XDG_RUNTIME_DIR=terminal.folder / runtime)
    done = terminal.harness("shell", "minimal", *terminal.stand_ins())
    assert done.code == 3
    assert "machine q35 lost at stage qemu: " in done.err


def test_a_qemu_that_ends_at_once_is_quoted_and_leaves_its_record(terminal: Terminal) -> None:
    qemu = fake_qemu(terminal.folder, when_started="echo 'no memory today' >&2; exit 7")
    done = terminal.harness("shell", "minimal", *terminal.stand_ins(qemu))
    assert done.code == 3
    assert (
        "harness: base machine q35 lost at stage qemu: QEMU ended, exit code 7; it said: no memory today\n" in done.err
    )
    (argv,) = terminal.cwd.glob("build/runs/*-*/base-q35-*/argv")
    assert f"\ncommand: {argv}\n" in done.err
    assert argv.read_text().startswith(str(qemu))
    for by_hand in ("socket,path=qmp.sock,", "stdio,mux=on,", "tcp:127.0.0.1:2222-:22"):
        assert by_hand in argv.read_text()
    assert not [process for process in psutil.Process().children() if qemu.name in " ".join(process.cmdline())]


@pytest.mark.parametrize(("arguments", "code"), [([], 4), (["--bisect"], 125)])
def test_a_bug_of_ours_says_nothing_of_the_kernel(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    """Python itself would exit with 1, which is a FAIL, and for `git bisect run` a bad kernel."""
    monkeypatch.setattr("harness.cli.test._pytest", lambda *_, **__: 1 // 0)
    done = terminal.harness("test", *terminal.stand_ins(), *arguments)
    assert done.code == code
    assert done.err.rstrip().endswith("ZeroDivisionError: integer division or modulo by zero")
