# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerator QEMU gets, and why: KVM only where it was proved to run guests at the speed of hardware."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.config import Accel
from harness.deadline import Deadline
from harness.errors import CouldNotRun, Stage
from harness.qemu.kvm_probe import KVM_DEVICE
from harness.text import clipped, decoded

PROBE = (sys.executable, "-m", "harness.qemu.kvm_probe")
"""The command that proves KVM; see there for what it prints."""
PROBE_TIMEOUT = 3.0
"""Seconds for the probe: it gives up by itself after 2, unless it hangs in the kernel."""
SLOWEST_TURN = 100.0
"""Nanoseconds per turn of the probe's loop: hardware takes about 1, kvm_pvm, which emulates, 1000 and more."""
_KILL_TIMEOUT = 1.0
"""Seconds to wait for the end of a killed probe; one that hangs in the kernel for good is left behind."""

Probed = float | str
"""What a probe found: nanoseconds per turn or, in words, why there is no such number."""


@dataclass(frozen=True)
class Choice:
    """The accelerator to use; `reason` tells the user why, in one line."""

    name: Literal["kvm", "tcg"]
    reason: str

    @property
    def is_kvm(self) -> bool:
        """Whether guests see the host's own processor."""
        return self.name == "kvm"

    @property
    def options(self) -> str:
        """The value of QEMU's `-accel`."""
        return "kvm" if self.is_kvm else "tcg,thread=multi"


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command`, its output in one pipe, and kill it at the end, without ever waiting for long."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=pipe, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_TIMEOUT)
        if process.stdout is not None:
            process.stdout.close()


def run_probe(command: Sequence[str] = PROBE, seconds: float = PROBE_TIMEOUT) -> Probed:
    """Run a probe for at most `seconds` (and one more to kill it) and give what it found."""
    deadline = Deadline(seconds, "the probe of KVM")
    with _running(command) as process:
        try:
            output, _ = process.communicate(timeout=deadline.remaining())
        except subprocess.TimeoutExpired:
            return str(deadline.error())
    last_line = decoded(output).strip().rpartition("\n")[2]
    with contextlib.suppress(ValueError):
        match json.loads(last_line):
            case {"turn_ns": float(turn_ns)}:
                return turn_ns
            case {"error": str(error)}:
                return error
    return f"the probe of KVM ended with code {process.returncode}, saying {clipped(last_line, 200)!r}"


@functools.cache
def probe_once() -> Probed:
    """Run the probe the first time this is called in a process, and give the same answer from then on."""
    return run_probe()


@dataclass(frozen=True)
class Host:
    """Where to look for KVM."""

    device: Path = KVM_DEVICE
    modules: Path = Path("/sys/module")
    probe: Callable[[], Probed] = probe_once


THIS_HOST = Host()


def _unopenable(device: Path) -> str | None:
    """Say why `device` cannot be opened for reading and writing, and what would help; None when it can."""
    load = "load kvm_intel or kvm_amd, which needs virtualization enabled in the firmware or by the outer hypervisor"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{device} is missing: {load} (in a container: pass the device in)"
    except OSError as error:
        remedy = "add yourself to the group kvm" if isinstance(error, PermissionError) else load
        return f"{device} cannot be opened for reading and writing ({error.strerror}): {remedy}"
    return None


def _obstacle(host: Host) -> str | None:
    """Say in one line why KVM is not usable on `host`, and what would help; None when it is. Cheap checks go first."""
    if unopenable := _unopenable(host.device):
        return unopenable
    there = f"{host.device} is there, but"
    if (host.modules / "kvm_pvm").exists():
        return f"{there} kvm_pvm is loaded, on which ordinary guests hang: use a host with kvm_intel or kvm_amd instead"
    if not any((host.modules / name).exists() for name in ("kvm_intel", "kvm_amd")):
        return f"{there} neither kvm_intel nor kvm_amd is loaded: load the one for this processor"
    probed = host.probe()
    if isinstance(probed, str):
        return f"{there} a small guest did not run on it ({probed}): look at the kernel's log"
    if probed > SLOWEST_TURN:
        return (
            f"{there} guests run slowly on it ({probed:.0f} ns per turn of a loop, where hardware takes about 1): "
            "use a host whose processor runs them itself"
        )
    return None


def choose(wanted: Accel, host: Host = THIS_HOST) -> Choice:
    """Choose the accelerator; raises `CouldNotRun`, with what would help, when KVM was asked for and is not usable."""
    if wanted is Accel.TCG:
        return Choice("tcg", "TCG was asked for")
    obstacle = _obstacle(host)
    if obstacle is None:
        return Choice("kvm", "a small guest ran on KVM at the speed of hardware")
    if wanted is Accel.KVM:
        raise CouldNotRun(f"KVM is not usable: {obstacle}, or use --accel tcg", stage=Stage.QEMU)
    return Choice("tcg", obstacle)
