# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking into a guest's kernel that hangs, is silent, stands still or has died."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.guest.guest import Guest
from harness.guest.introspect import program
from harness.guest.introspect.program import NotAttached
from harness.guest.introspect.state import KernelState
from harness.guest.introspect.tasks import Task
from harness.guest.pci import Function
from harness.guest.ssh import GuestLost, GuestTimeout
from harness.machine.machine import Machine

pytestmark = pytest.mark.machine("minimal")

IN_BACKGROUND = "</dev/null >/dev/null 2>&1 &"
SILENT_SECONDS = 4
STAMP = re.compile(r"\[ *\d+\.\d{6}\] ")


def blocked(introspection: KernelState, *functions: str) -> list[Task]:
    """Wait until a task is blocked in each of these functions of the kernel, all in one moment, and give them."""
    deadline = Deadline(30, f"tasks that are blocked in {' and '.join(functions)}")
    while True:
        deadline.check()
        tasks = introspection.blocked_tasks()
        found = [next((task for task in tasks if function in task.stack), None) for function in functions]
        if None not in found:
            return [task for task in found if task is not None]


@pytest.mark.machine("igb-sriov")
def test_a_blocked_task_is_found_with_its_stack_and_the_lock_that_another_has(
    guest: Guest, pf: Function, introspection: KernelState
) -> None:
    pf.numvfs = 2
    assert introspection.blocked_tasks() == []
    # Disabling takes a second (sriov_disable, drivers/pci/iov.c), with the PF's lock held: so long no other gets it.
    attribute = f"{pf.path}/sriov_numvfs"
    guest.run(f"(echo 0 > {attribute}) {IN_BACKGROUND} sleep 0.2; cat {attribute} {IN_BACKGROUND}", check=True)
    reader, writer = blocked(introspection, "sriov_numvfs_show", "sriov_numvfs_store")
    assert (reader.comm, reader.held_by) == ("cat", writer.pid)
    assert reader.waits_for in writer.held_locks
    assert writer.stack[0] in {"context_switch", "__schedule"}


def test_the_log_in_memory_is_the_one_that_the_guest_tells(guest: Guest, introspection: KernelState) -> None:
    guest.write("/dev/kmsg", "<7>all of \x1b[2Jthis\n")
    told = guest.run("dmesg", check=True).stdout.splitlines()
    assert told[-1].endswith("] all of this")
    assert introspection.printk()[: len(told)] == told


def test_a_guest_whose_ssh_is_dead_can_be_looked_into(guest: Guest, introspection: KernelState) -> None:
    silence = f"kill -STOP $(pidof dropbear); sleep {SILENT_SECONDS}; kill -CONT $(pidof dropbear)"
    mark = guest.log_mark()
    guest.run(f"({silence}) {IN_BACKGROUND}", check=True)
    with pytest.raises(GuestTimeout):
        keep_asking(guest)
    assert introspection.printk()[-1].endswith(mark)
    assert introspection.functions()


def is_torn(line: str, log: Sequence[str]) -> bool:
    """Tell whether a line is one's beginning and another's end: a CPU that is stopped leaves the rest unsent."""
    return any(
        any(one.startswith(line[:place]) for one in log) and any(one.endswith(line[place:]) for one in log)
        for place in range(len(line) + 1)
    )


def keep_asking(guest: Guest) -> None:
    """Ask until no answer comes: the signal is on its way."""
    while True:
        guest.run("true", timeout=1)


@pytest.mark.expects_report("panic", match="sysrq triggered crash")
def test_a_guest_that_has_panicked_can_be_looked_into(
    machine: Machine, guest: Guest, introspection: KernelState
) -> None:
    before = introspection.functions()
    with pytest.raises(GuestLost):
        guest.write("/proc/sysrq-trigger", "c")
    machine.settle()
    log = introspection.printk()
    (panic,) = [line for line in log if "Kernel panic - not syncing: sysrq triggered crash" in line]
    said = machine.console.tail(200)
    assert panic in said
    stamped = [line for line in said if STAMP.match(line)]
    other = [line for line in stamped if line not in log]
    assert len(other) <= 1, other
    assert all(is_torn(line, log) for line in other)
    assert introspection.functions() == before


@pytest.mark.usefixtures("debug_info")
@pytest.mark.expects_report("panic", match="sysrq triggered crash")
def test_a_guest_that_has_panicked_stays_as_it_is_when_its_cpus_are_to_stand_still(
    machine: Machine, guest: Guest
) -> None:
    with pytest.raises(GuestLost):
        guest.write("/proc/sysrq-trigger", "c")
    with machine.introspect(paused=True) as state:
        assert "sysrq triggered crash" in "\n".join(state.printk())
    assert machine.qmp.execute("query-status")["status"] == "guest-panicked"


@pytest.mark.usefixtures("debug_info")
def test_the_cpus_stand_still_while_that_is_asked_for_and_then_go_on(machine: Machine, guest: Guest) -> None:
    with machine.introspect(paused=True) as state:
        assert machine.qmp.execute("query-status")["status"] == "paused"
        assert state.functions() == state.functions()
        assert state.printk() == state.printk()
    assert machine.qmp.execute("query-status")["running"]
    assert guest.read("/proc/sys/kernel/ostype") == "Linux\n"


def test_the_socket_is_taken_while_somebody_looks_and_free_afterwards(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, debug_info: Path
) -> None:
    del debug_info
    with machine.introspect() as first:
        monkeypatch.setattr(program, "_GREETING_TIMEOUT", 0.2)
        with pytest.raises(NotAttached, match="is another debugger connected"), machine.introspect():
            raise AssertionError("never reached")
        monkeypatch.undo()
        names = [one.name for one in first.functions()]
    with machine.introspect() as second:
        assert [one.name for one in second.functions()] == names


@pytest.fixture
def shell(machine: Machine, harness_command: tuple[str, ...], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs `harness shell igb-sriov --introspect` with the kernel under test; gives its status and what it printed."""
    kernel = machine.spec.parts.kernel
    chosen = ["--kernel", str(kernel.image), *(["--modules", str(kernel.modules)] if kernel.modules else [])]

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*harness_command, "shell", "igb-sriov", "--introspect", *chosen, *arguments],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    return run


ENABLE_TWO = ("--", "sh", "-c", "echo 2 > /sys/bus/pci/devices/0000:02:00.0/sriov_numvfs; echo done; exit 7")


@pytest.mark.usefixtures("debug_info")
def test_the_shell_prints_the_kernels_functions_as_a_tree_after_a_command(
    shell: Callable[..., tuple[int, str]],
) -> None:
    status, printed = shell(*ENABLE_TWO)
    lines = [line.strip("│├└─ ") for line in printed.splitlines()]
    assert status == 7
    assert lines[:3] == ["done", "PCI functions", "bus 00 [00-ff]"]
    assert any(line.startswith("0000:02:00.0 8086:10c9 igb, ") and " is_physfn" in line for line in lines)
    assert any(line.startswith("sriov: pos 352, num_VFs 2, total_VFs 8, ") for line in lines)
    assert lines.count("physfn 0000:02:00.0") == 2
    assert "virtio-pci: virtio_pci_sriov_configure" in lines


@pytest.mark.usefixtures("debug_info")
def test_the_shell_prints_json_and_nothing_else(shell: Callable[..., tuple[int, str]]) -> None:
    status, printed = shell("--json", *ENABLE_TWO)
    found = json.loads(printed)
    assert status == 7
    assert set(found) == {"functions", "buses", "drivers", "blocked_tasks"}
    (pf,) = [one for one in found["functions"] if one["is_physfn"]]
    assert (pf["bdf"], pf["sriov"]["num_VFs"]) == ("0000:02:00.0", 2)
    assert [one["physfn"] for one in found["functions"] if one["is_virtfn"]] == [pf["bdf"]] * 2
