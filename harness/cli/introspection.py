# SPDX-License-Identifier: GPL-2.0-or-later
"""What `harness shell --introspect` prints: the kernel's PCI functions, drivers and blocked tasks, as tree or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text
from rich.tree import Tree

from harness.cli import flags, output
from harness.guest.introspect.buses import PciBus
from harness.guest.introspect.drivers import PciDriver
from harness.guest.introspect.functions import PciFunction, Siov, Sriov
from harness.guest.introspect.state import KernelState
from harness.guest.introspect.tasks import Task
from harness.guest.pci import Bdf
from harness.machine.machine import Machine

_BITS = ("is_physfn", "is_virtfn", "is_sriov", "is_siov", "is_busmaster")


def show(machine: Machine, *, as_json: bool) -> None:
    """Look into the machine's kernel, its CPUs stopped, and print what it has in mind; raises as `KernelState`."""
    with machine.introspect(paused=True) as state:
        found = _read(state)
    if as_json:
        flags.print_json({name: [_plain(one) for one in items] for name, items in found.items()})
        return
    console = output.console()
    console.print(_functions(found["buses"], found["functions"]))
    console.print(_drivers(found["drivers"]))
    if found["blocked_tasks"]:
        console.print(_tasks(found["blocked_tasks"]))


def _read(state: KernelState) -> dict[str, list[Any]]:
    return {
        "functions": state.functions(), "buses": state.buses(), "drivers": state.drivers(),
        "blocked_tasks": state.blocked_tasks(),
    }  # fmt: skip


def _plain(item: Any) -> dict[str, Any]:
    """Give a dataclass as JSON has it, an address as text."""
    fields = {one.name: getattr(item, one.name) for one in dataclasses.fields(item)}
    return {name: str(value) if isinstance(value, Bdf) else _nested(value) for name, value in fields.items()}


def _nested(value: Any) -> Any:
    return _numbers(value) if isinstance(value, Sriov | Siov) else value


def _numbers(of: Sriov | Siov) -> Mapping[str, int]:
    return of.members if isinstance(of, Siov) else dataclasses.asdict(of)


def _functions(buses: list[PciBus], functions: list[PciFunction]) -> Tree:
    """Hang every function below its bus, and every bus below its bridge, or else below the bus that it belongs to."""
    tree = Tree(Text("PCI functions"), highlight=False)
    on_bus: dict[tuple[int, int], Tree] = {}
    at: dict[Bdf, Tree] = {}
    for bus in buses:
        root = on_bus.get((bus.domain, bus.parent), tree) if bus.parent is not None else tree
        above = at.get(bus.bridge, root) if bus.bridge is not None else root
        node = above.add(Text(f"bus {bus.number:02x} [{bus.first:02x}-{bus.last:02x}]"))
        on_bus[bus.domain, bus.number] = node
        for one in functions:
            if (one.bdf.domain, one.bdf.bus) == (bus.domain, bus.number):
                at[one.bdf] = node.add(Text(_line(one)))
                for line in _details(one):
                    at[one.bdf].add(Text(line))
    return tree


def _line(one: PciFunction) -> str:
    bits = " ".join(name for name in _BITS if getattr(one, name))
    ids = f"{one.vendor:04x}:{one.device:04x}"
    return f"{one.bdf} {ids} {one.driver or '(no driver)'}, {one.references} references {bits}".rstrip()


def _details(one: PciFunction) -> Iterator[str]:
    if one.physfn is not None:
        yield f"physfn {one.physfn}"
    for name, kept in (("sriov", one.sriov), ("siov", one.siov)):
        if kept is not None:
            yield f"{name}: {', '.join(f'{field} {value}' for field, value in _numbers(kept).items())}"


def _drivers(drivers: list[PciDriver]) -> Tree:
    tree = Tree(Text("drivers with an sriov_configure"), highlight=False)
    for one in drivers:
        if one.sriov_configure is not None:
            module = "" if one.module is None else f" (module {one.module})"
            tree.add(Text(f"{one.name}: {one.sriov_configure}{module}"))
    return tree


def _tasks(tasks: list[Task]) -> Tree:
    tree = Tree(Text("tasks that wait and cannot be woken (state D)"), highlight=False)
    for one in tasks:
        node = tree.add(Text(f"{one.pid} {one.comm}"))
        if one.waits_for is not None:
            holder = "" if one.held_by is None else f", which {one.held_by} has"
            node.add(Text(f"waits for {one.waits_for}{holder}"))
        for lock in one.held_locks or ():
            node.add(Text(f"holds {lock}"))
        for frame in one.stack:
            node.add(Text(frame))
    return tree
