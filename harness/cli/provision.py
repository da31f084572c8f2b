# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness provision`: get all parts now, so that nothing has to be fetched or built later."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import flags, output
from harness.errors import UsageError
from harness.machine.parts import Store
from harness.provision.qemu import Qemu


class What(StrEnum):
    """What is to be got."""

    ALL = "all"
    QEMU = "qemu"


def provision(
    what: Annotated[What, typer.Argument(help="All parts of a machine, or QEMU alone.")] = What.ALL,
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="The QEMU with iov-overlay, built from the distribution's source.")
    ] = False,
    qemu_source: Annotated[
        Path | None, typer.Option(help="Build it from this tree of yours instead; implies --overlay.")
    ] = None,
    sanitize: Annotated[
        bool, typer.Option("--sanitize", help="Build it with the address and undefined-behaviour sanitizers.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Fetch and build anew, where newer ones may be out.")
    ] = False,
    json: flags.Json = False,
) -> None:
    """Get QEMU, a kernel and a guest root into the cache; what is there already is left as it is."""
    store = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel)
    if overlay or qemu_source is not None:
        if what is not What.QEMU or qemu is not None:
            raise UsageError("--overlay and --qemu-source: write `harness provision qemu`, without --qemu")
        _tell(store.overlay_qemu(tree=qemu_source, sanitize=sanitize, refresh=refresh), json=json)
    elif sanitize:
        raise UsageError("--sanitize: only a QEMU that is built can be; add --overlay")
    elif what is What.QEMU:
        _tell(store.qemu(refresh=refresh), json=json)
    else:
        _all(store, refresh=refresh, json=json)


def _all(store: Store, *, refresh: bool, json: bool) -> None:
    parts = store.parts(refresh=refresh)
    if json:
        flags.print_json(
            {
                **_qemu(parts.qemu),
                "kernel": {"name": parts.kernel.name, "release": parts.kernel.release, "image": parts.kernel.image},
                "initramfs": parts.initramfs, "accel": {"name": parts.accel.name, "reason": parts.accel.reason},
            }
        )  # fmt: skip
        return
    console = output.console()
    console.print(f"QEMU         {parts.qemu.version}, {parts.qemu.origin}: {parts.qemu.path}")
    console.print(f"accelerator  {parts.accel.name}: {parts.accel.reason}")
    console.print(f"kernel       {parts.kernel.name} ({parts.kernel.release}): {parts.kernel.image}")
    console.print(f"guest root   {parts.initramfs}")


def _tell(qemu: Qemu, *, json: bool) -> None:
    if json:
        flags.print_json(_qemu(qemu))
    else:
        output.console().print(f"QEMU  {qemu.version}, {qemu.origin}: {qemu.path}")


def _qemu(qemu: Qemu) -> dict[str, dict[str, object]]:
    about = {"path": qemu.path, "version": qemu.version, "origin": qemu.origin, "overlay": qemu.has_overlay}
    return {"qemu": about}
