# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness shell` on a machine that is none: what it tells of a loss, and how scripts and output get through."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commandline import Done, Terminal

from harness.guest.introspect.buses import PciBus
from harness.guest.introspect.drivers import PciDriver
from harness.guest.introspect.functions import PciFunction, Sriov
from harness.guest.introspect.tasks import Task
from harness.guest.pci import Bdf
from harness.guest.reports import KernelReport, ReportKind
from harness.guest.ssh import Completed, GuestLost, Tell

PANIC = "Kernel panic - not syncing: sysrq triggered crash"
FUNCTION = PciFunction(
    Bdf(0, 1, 0, 0), "0000:01:00.0", 0x1B36, 0x10, "nvme", is_physfn=True, is_virtfn=False, is_sriov=None, is_siov=None,
    is_bridge=False, is_busmaster=True, references=9, enabled=1, subordinate=None, physfn=None,
    sriov=Sriov(288, 1, 4, 4, 4, 1, 1, 16, 1, drivers_autoprobe=True), siov=None,
)  # fmt: skip
NUMBERS = (
    "pos 288, num_VFs 1, total_VFs 4, initial_VFs 4, driver_max_VFs 4, offset 1, stride 1, vf_device 16, "
    "max_VF_buses 1, drivers_autoprobe True"
)
WARN = KernelReport(ReportKind.WARN, "WARNING: at here", (), 1)


class Machine:
    """A machine on which every command and session does what the test says."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "record"
        self.debug_socket = folder / "debug.sock"
        self.ssh_port = 4711
        self.loss: str | None = None
        self.state: Any = None
        self.health = SimpleNamespace(exit=None)
        self.console = SimpleNamespace(reports=lambda: self.reports if self.drained else [])
        self.session = SimpleNamespace(run=self.run)
        self.guest = SimpleNamespace(put=self.put)
        self.spec = SimpleNamespace(
            parts=SimpleNamespace(
                keys=SimpleNamespace(login=folder / "key"), kernel=SimpleNamespace(vmlinux=folder / "vmlinux")
            )
        )
        self.reports: list[KernelReport] = []
        self.drained = False
        self.files: dict[str, bytes] = {}
        self.commands: list[list[str]] = []

    def drain(self) -> None:
        self.drained = True

    def gdb(self) -> Path:
        return self.directory / "gdb.sock"

    @contextmanager
    def introspect(self, *, paused: bool) -> Iterator[Any]:
        assert paused
        yield self.state

    def put(self, data: bytes, path: str, *, mode: int) -> None:
        assert mode == 0o700
        self.files[path] = data

    def run(self, command: list[str], *, timeout: float, tell: Tell) -> Completed:
        assert timeout > 3600
        self.commands.append(command)
        tell(1, b"line\n")
        return Completed("", 7, "", "")


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capfd)


@pytest.fixture
def machine(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine that `harness shell` boots."""
    made = Machine(terminal.folder)

    @contextmanager
    def running(*_: object, **__: object) -> Iterator[Machine]:
        yield made

    monkeypatch.setattr("harness.machine.start.Starter.running", running)
    monkeypatch.setattr("harness.machine.start.Starter.prepare", lambda *_: None)
    return made


@pytest.fixture
def at_the_prompt(terminal: Terminal, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give what runs a session in which this happens to the machine, and tells whether Enter was waited for."""

    def run(**happens: object) -> tuple[Done, bool]:
        waited: list[bool] = []
        monkeypatch.setattr(sys, "stdin", Keyboard())
        monkeypatch.setattr("harness.guest.terminal.interact", lambda _: vars(machine).update(happens))
        monkeypatch.setattr("harness.guest.terminal.wait_for_enter", lambda: waited.append(True))
        return terminal.harness("shell", "minimal", *terminal.stand_ins()), bool(waited)

    return run


def test_a_session_that_ends_well_is_no_failure_and_its_reports_are_told(at_the_prompt: Any) -> None:
    done, waited = at_the_prompt(reports=[WARN])
    assert (done.code, waited) == (0, False)
    assert done.err.endswith("the kernel reported warn: WARNING: at here\n")


def test_everything_that_leads_into_the_machine_is_told(machine: Machine, at_the_prompt: Any) -> None:
    done, _ = at_the_prompt()
    told = dict(line.split(maxsplit=1) for line in done.err.splitlines() if line.split(maxsplit=1)[0].endswith(":"))
    assert "-p 4711" in told["ssh:"]
    assert told["qmp:"] == str(machine.debug_socket)
    vmlinux, waiting = machine.spec.parts.kernel.vmlinux, machine.gdb()
    assert told["gdb:"] == f"gdb {vmlinux} -ex 'target remote {waiting}'"


def test_a_panic_at_the_prompt_is_told_and_the_machine_kept_until_enter(machine: Machine, at_the_prompt: Any) -> None:
    done, waited = at_the_prompt(loss=PANIC, reports=[KernelReport(ReportKind.PANIC, PANIC, (), 1)])
    assert (done.code, waited) == (1, True)
    assert done.err.splitlines()[-5:] == [
        f"the kernel reported panic: {PANIC}",
        f"the machine is lost: {PANIC}",
        f"console: {machine.directory / 'console.log'}",
        f"QEMU is still there for inspection: {machine.debug_socket}",
        "Enter ends it.",
    ]


def test_a_qemu_that_died_at_the_prompt_is_told_and_nothing_waited_for(machine: Machine, at_the_prompt: Any) -> None:
    done, waited = at_the_prompt(loss="QEMU ended, killed by SIGKILL", health=SimpleNamespace(exit="SIGKILL"))
    assert (done.code, waited) == (1, False)
    assert done.err.splitlines()[-2:] == [
        "the machine is lost: QEMU ended, killed by SIGKILL", f"console: {machine.directory / 'console.log'}",
    ]  # fmt: skip


def test_a_script_on_standard_input_is_as_long_as_it_likes(
    terminal: Terminal, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = b"echo \xff\n" * 10_000
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(script)))
    done = terminal.harness("shell", "minimal", *terminal.stand_ins())
    assert (done.code, done.out) == (7, "line\n")
    ((path, content),) = machine.files.items()
    assert content == script
    assert machine.commands == [["sh", path]]


def test_a_kernel_without_debug_information_is_refused_before_anything_boots(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.machine.start.Starter.prepare", lambda *_: pytest.fail("a machine was started"))
    done = terminal.harness("shell", "minimal", *terminal.stand_ins(), "--introspect")
    assert done.code == 2
    lacking = f"kernel {terminal.folder / 'bzImage'} has no debug information (vmlinux with DWARF)"
    assert done.line == f"{lacking}, which introspection needs; those of `harness kernel build` have it"


def test_json_is_refused_without_introspection(terminal: Terminal) -> None:
    assert terminal.refused("shell", "minimal", "--json") == "--json goes with --introspect"


@pytest.fixture
def introspected(terminal: Terminal, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs `harness shell minimal --introspect`, where the kernel of the machine has a PF, a VF and a blocked task."""
    machine.state = SimpleNamespace(
        functions=lambda: [FUNCTION, replace(FUNCTION, bdf=Bdf(0, 1, 0, 1), is_physfn=False, is_virtfn=True,
                                             driver=None, physfn=FUNCTION.bdf, sriov=None)],
        buses=lambda: [PciBus(0, 1, 0, 1, 2, None, None)],
        drivers=lambda: [PciDriver("nvme", None, "pci_sriov_configure_simple"), PciDriver("e1000", None, None),
                         PciDriver("igb", "igb", "0xffffffffc0485900")],
        blocked_tasks=lambda: [Task(7, "sh", ("schedule", "msleep"), "lock", 8, ("other",))],
    )  # fmt: skip
    monkeypatch.setattr("harness.cli.shell.debug_info", lambda _: terminal.folder)
    monkeypatch.setattr(sys, "stdin", Keyboard())

    def run(*arguments: str) -> Done:
        return terminal.harness("shell", "minimal", *terminal.stand_ins(), "--introspect", *arguments)

    return run


def test_introspection_is_printed_as_a_tree_instead_of_a_prompt(introspected: Callable[..., Done]) -> None:
    done = introspected()
    assert done.code == 0
    assert done.out.splitlines() == [
        "PCI functions",
        "└── bus 01 [01-02]",
        "    ├── 0000:01:00.0 1b36:0010 nvme, 9 references is_physfn is_busmaster",
        f"    │   └── sriov: {NUMBERS}",
        "    └── 0000:01:00.1 1b36:0010 (no driver), 9 references is_virtfn is_busmaster",
        "        └── physfn 0000:01:00.0",
        "drivers with an sriov_configure",
        "├── nvme: pci_sriov_configure_simple",
        "└── igb: 0xffffffffc0485900 (module igb)",
        "tasks that wait and cannot be woken (state D)",
        "└── 7 sh",
        "    ├── waits for lock, which 8 has",
        "    ├── holds other",
        "    ├── schedule",
        "    └── msleep",
    ]


def test_introspection_as_json_leaves_a_commands_output_to_standard_error(introspected: Callable[..., Done]) -> None:
    done = introspected("--json", "--", "true")
    assert done.code == 7
    found = json.loads(done.out)
    assert [one["bdf"] for one in found["functions"]] == ["0000:01:00.0", "0000:01:00.1"]
    assert found["functions"][0]["sriov"]["num_VFs"] == 1
    assert found["drivers"][1] == {"name": "e1000", "module": None, "sriov_configure": None}
    assert "line\n" in done.err


def test_a_kernel_that_died_of_the_command_is_looked_into_all_the_same(
    introspected: Callable[..., Done], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> Completed:
        raise GuestLost(PANIC)

    monkeypatch.setattr(machine.session, "run", die)
    done = introspected("--", "true")
    assert (done.code, done.out.splitlines()[0]) == (1, "PCI functions")
    assert done.err.endswith(f"harness: {PANIC}\n")
    machine.health.exit = "SIGKILL"
    assert introspected("--", "true").out == ""


SHOWING = """
import sys
from harness.cli.terminal import shown
try:
    with shown() as tell:
        tell(1, b"line\\n")
        tell(1, b"line\\n")
except BaseException as error:
    print(type(error).__name__, getattr(error, "exit_code", ""), error, file=sys.stderr)
"""


def shown_on(stdout: int) -> str:
    done = subprocess.run([sys.executable, "-c", SHOWING], stdout=stdout, stderr=subprocess.PIPE, text=True, check=True)
    return done.stderr


def test_output_that_nobody_reads_any_more_ends_the_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        assert shown_on(write).split()[:2] == ["Exit", "141"]
    finally:
        os.close(write)


def test_output_that_cannot_be_written_is_no_fault_of_the_connection() -> None:
    with Path("/dev/full").open("w") as full:
        told = shown_on(full.fileno())
    assert told == "CouldNotRun 3 the command's output cannot be written: No space left on device\n"
