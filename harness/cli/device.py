# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness device`: the device models there are, what a device declares, and serving one by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from harness.cli import complete, flags, output, serving
from harness.device import models
from harness.device.config_space import Bar
from harness.device.device import Device
from harness.device.layout import Placed
from harness.device.models import Argument, Model
from harness.device.registers import Register
from harness.machine.devices import blamed

app = typer.Typer(no_args_is_help=True, help="See the devices that live in Python, and serve one to a QEMU of yours.")

_MODEL = "A model by name, or FILE.py:CLASS for one of your own."
_LINE = 16
"""Bytes in a line of a hex dump: as many as in lspci's."""
_HEADER = 0x40

Name = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, autocompletion=complete.models)]
Arguments = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="NAME=VALUE", help="Set an argument of the model (repeatable)."),
]


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=_MODEL, autocompletion=complete.models)] = None,
    json: flags.Json = False,
) -> None:
    """List the device models, or show one with its arguments."""
    found = {}
    for name in [model] if model else sorted(models.BUILT_IN):
        with blamed(name):
            one = models.find(name)
            found[one] = one.arguments
    if json:
        flags.print_json([_plain_model(one, arguments) for one, arguments in found.items()])
    elif model:
        for one, arguments in found.items():
            output.console().print(Text.assemble((one.name, "bold"), f": {one.summary}"))
            rows = ((name, _default(argument), argument.takes) for name, argument in arguments.items())
            output.table("argument", "default", "takes", rows=rows)
    else:
        output.table("model", "what it is", rows=((one.name, one.summary) for one in found))


@app.command()
def show(
    model: Name,
    param: Arguments = None,
    hex_: Annotated[bool, typer.Option("--hex", help="Print only the dump, of all 4096 bytes.")] = False,
    json: flags.Json = False,
) -> None:
    """Show what a device declares: its identity, capabilities and registers, and its configuration space.

    The dump at the end goes as far as the last capability. lspci reads it: lspci -F /dev/stdin -vvv
    """
    found, device = _made(model, param)
    with closing(device):
        if json:
            flags.print_json(_plain(found, device))
            return
        if not hex_:
            _describe(found, device)
        length = device.config.size if hex_ else _used(device)
        output.console().print("\n".join(_dump(device, length)))


@app.command()
def serve(
    model: Name,
    socket: Annotated[Path, typer.Option(metavar="PATH", help="UNIX socket to make, for QEMU to connect to.")],
    param: Arguments = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all accesses there, as JSON lines.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print all accesses.")] = False,
) -> None:
    """Serve a device to a QEMU of your own, until Ctrl-C; QEMU may come and go."""
    found, device = _made(model, param)
    serving.serve(device, found.name, socket, log=log, accesses=verbose)


def _made(name: str, param: list[str] | None) -> tuple[Model, Device]:
    arguments = flags.assignments(param)
    with blamed(name):
        found = models.find(name)
        return found, found.make(arguments)


def _describe(model: Model, device: Device) -> None:
    console = output.console()
    console.print(Text.assemble((model.name, "bold"), f": {model.summary}\n{_identity(device)}\n"))
    rows = map(_capability, device.config.capabilities)
    output.table("capability", "at", "ID", "version", "bytes", rows=rows)
    for index, bar in sorted(device.declared_bars.items()):
        console.print(f"\nBAR {index}: {_bar(bar)}")
        if bar.registers:
            rows = map(_register, device.bars[index].registers)
            output.table("register", "at", "bytes", "after reset", "written", "cleared by 1", rows=rows)
    console.print()


def _identity(device: Device) -> str:
    one = device.identity
    subsystem = f"subsystem {one.subsystem_vendor_id:04x}:{one.subsystem_id:04x}"
    return (
        f"{one.vendor_id:04x}:{one.device_id:04x}, {subsystem}, class {one.class_code:06x}, revision "
        f"{one.revision:02x}, MSI-X vectors: {device.vectors}"
    )


def _capability(placed: Placed) -> tuple[str, ...]:
    one = placed.capability
    number = f"{one.id:#06x}" if one.is_extended else f"{one.id:#04x}"
    version = "" if one.version is None else str(one.version)
    return one.name, f"{placed.at:#x}", number, version, f"{one.size:#x}"


def _bar(bar: Bar) -> str:
    kind = "I/O" if bar.kind == "io" else f"{bar.width} bits{', prefetchable' if bar.prefetchable else ''}"
    return f"{bar.size:#x} bytes, {kind}"


def _register(one: Register) -> tuple[str, ...]:
    name = one.name if one.count == 1 else f"{one.name}[{one.count}]"
    written, cleared = (f"{bits:#x}" if bits else "" for bits in (one.rw, one.w1c))
    return name, f"{one.offset:#x}", str(one.size), f"{one.value:#x}", written, cleared


def _used(device: Device) -> int:
    """Give the bytes of configuration space that hold anything: the header, and all capabilities."""
    return max([_HEADER, *(placed.end for placed in device.config.capabilities)])


def _dump(device: Device, length: int) -> Iterator[str]:
    """Give whole lines of configuration space, `length` bytes at least, as `lspci -n -xxxx` prints them."""
    one = device.identity
    yield f"00:00.0 {one.class_code >> 8:04x}: {one.vendor_id:04x}:{one.device_id:04x} (rev {one.revision:02x})"
    config = device.config.peek(0, -(-length // _LINE) * _LINE)
    for at in range(0, len(config), _LINE):
        yield f"{at:02x}: {config[at : at + _LINE].hex(' ')}"


def _default(argument: Argument) -> str:
    default = argument.default
    if argument.required:
        return "must be given"
    if default is None:
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default} ({default:#x})" if isinstance(default, int) and default > 0xFF else str(default)


def _plain_model(model: Model, arguments: dict[str, Argument]) -> dict[str, Any]:
    plain = {
        name: {**dataclasses.asdict(one), "type": one.type.__name__, "takes": one.takes}
        for name, one in arguments.items()
    }
    return {"name": model.name, "summary": model.summary, "arguments": plain}


def _plain(model: Model, device: Device) -> dict[str, Any]:
    return {
        "model": model.name, "identity": dataclasses.asdict(device.identity), "vectors": device.vectors,
        "capabilities": list(map(_plain_capability, device.config.capabilities)),
        "bars": {index: dataclasses.asdict(bar) for index, bar in sorted(device.declared_bars.items())},
        "registers": _plain_registers(device.config.registers),
        "config": device.config.peek(0, device.config.size).hex(),
    }  # fmt: skip


def _plain_capability(placed: Placed) -> dict[str, Any]:
    one = placed.capability
    return {"name": one.name, "at": placed.at, "id": one.id, "version": one.version, "bytes": one.size}


def _plain_registers(registers: Iterable[Register]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(one) for one in registers]
