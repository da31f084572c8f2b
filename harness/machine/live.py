# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine at somebody's terminal: what it can be reached by, and prompts in the guest and in Python."""

from __future__ import annotations

import code
import shlex
import sys
from collections.abc import Callable, Mapping

from harness.guest import terminal
from harness.machine.machine import Machine
from harness.provision.keys import Keys
from harness.text import printable

_MENU = "Enter: a shell in the guest; p: Python; c: go on, and end the machine"


def ssh(keys: Keys, port: int) -> str:
    """Give the command that leads into a guest; its host key is made anew for every machine."""
    unpinned = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    return f"ssh -i {keys.login} -p {port} {unpinned} root@127.0.0.1"


def addresses(machine: Machine) -> dict[str, str]:
    """Give everything that a machine can be looked at by, as lines to paste; what it has not is left out."""
    lines = {"console": str(machine.directory / "console.log")}
    if machine.loss is None:
        lines = {"ssh": ssh(machine.spec.parts.keys, machine.ssh_port), **lines}
    if machine.health.exit is None:
        lines |= {"qmp": str(machine.debug_socket), "gdb": _gdb(machine)}
    return lines


def _gdb(machine: Machine) -> str:
    vmlinux = machine.spec.parts.kernel.vmlinux
    words = ["gdb", *([str(vmlinux)] if vmlinux else []), "-ex", f"target remote {machine.gdb()}"]
    return shlex.join(words)


def names(machine: Machine) -> Mapping[str, object]:
    """Give the names of the Python prompt: what the fixtures of a test are called, too.

    The overlay among them lies over the first PF from then on, and shows nothing until it is told to.
    """
    given: dict[str, object] = {
        "machine": machine, "guest": machine.guest, "qmp": machine.qmp, "devices": machine.devices,
        "introspect": machine.introspect,
    }  # fmt: skip
    if machine.loss is None:
        pfs = machine.pfs
        given |= {"pfs": pfs, "pf": pfs[0] if pfs else None}
        if machine.spec.parts.qemu.has_overlay and machine.spec.profile.pfs:
            given["overlay"] = machine.overlay(machine.spec.profile.pfs[0])
    if len(machine.devices) == 1:
        given["device"] = next(iter(machine.devices.values()))
    return given


def python(machine: Machine) -> None:
    """Give a Python prompt that has the machine's objects by name, until Ctrl-D."""
    known = dict(names(machine))
    banner = f"{', '.join(sorted(known))} are at hand. Ctrl-D ends it."
    code.interact(banner=banner, local=known, exitmsg="")


def run_python(machine: Machine, program: bytes) -> None:
    """Run a Python program that has the machine's objects by name; raises what it raises."""
    code = compile(program, "<standard input>", "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__", **names(machine)})  # noqa: S102 - the user's own


def pause(machine: Machine, tell: Callable[[str], None]) -> None:
    """Hand a machine to the user until they have seen enough; what goes wrong meanwhile is told, and no more."""
    _attempt(lambda: _list(machine, tell), tell)
    while True:
        tell(_MENU)
        sys.stdout.flush()
        answer = sys.stdin.readline()
        if not answer or answer.strip().lower() == "c":
            return
        if answer.strip().lower() == "p":
            _attempt(lambda: python(machine), tell)
        elif machine.loss is not None:
            tell(f"no shell: the machine is lost: {printable(machine.loss)}")
        else:
            _attempt(lambda: terminal.interact(machine.session), tell)


def _list(machine: Machine, tell: Callable[[str], None]) -> None:
    for name, line in addresses(machine).items():
        tell(f"{name + ':':9}{line}")


def _attempt(do: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Do something for the user; what goes wrong with it, or `exit()` at a prompt, ends nothing else."""
    try:
        do()
    except SystemExit:
        return
    except Exception as error:  # noqa: BLE001 - the user sees it
        tell(printable(str(error)) or type(error).__name__)
