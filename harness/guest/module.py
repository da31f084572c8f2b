# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules in a guest: loaded with parameters and unloaded, each with one system call and its true errno."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.guest import agent
from harness.guest.agent import Agent
from harness.guest.guest import Guest


@dataclass(frozen=True)
class Module:
    """A kernel module in a guest, by the name under which its kernel knows it."""

    agent: Agent
    name: str

    def unload(self) -> None:
        """Unload it, with one delete_module(2). Raises `GuestErrno` where the kernel refuses."""
        self.agent.call(agent.remove(self.name)).value()


def load(guest: Guest, file: Path, **parameters: str | int) -> Module:
    """Copy a .ko into a guest and load it, with one finit_module(2). Raises `GuestErrno` where the kernel refuses."""
    words = " ".join(_words(parameters))
    there = f"/tmp/{file.name}"  # noqa: S108 - the guest's, and the test's alone
    guest.put(file.read_bytes(), there)
    guest.agent.call(agent.insert(there, words)).value()
    return Module(guest.agent, file.stem.replace("-", "_"))  # as scripts/Makefile.lib does (name-fix)


def load_own(guest: Guest, name: str) -> None:
    """Load a module of the guest's own kernel, unless it is loaded: what depends on nothing, without a program's start.

    Raises `GuestFailure` where there is none of that name.
    """
    release = guest.read("/proc/sys/kernel/osrelease").strip()
    loaded = guest.agent.call(agent.insert(f"/lib/modules/{release}/{name}.ko"))
    if loaded.errno not in (0, errno.EEXIST):
        guest.run(["modprobe", name], check=True)


def _words(parameters: dict[str, str | int]) -> list[str]:
    """Give the parameters as kernel/params.c reads them: a value between quotes may hold spaces, but no quotes."""
    for name, value in parameters.items():
        if '"' in f"{name}{value}":
            raise UsageError(f"module parameter {name}={value}: a kernel cannot read a quotation mark in it")
    return [f'{name}="{int(value) if isinstance(value, bool) else value}"' for name, value in parameters.items()]
