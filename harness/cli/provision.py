# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness provision`: get all parts now, so that nothing has to be fetched later."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import flags, output


def provision(
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Fetch anew, where newer ones may be out.")] = False,
    json: flags.Json = False,
) -> None:
    """Get QEMU, a kernel and a guest root into the cache; what is there already is left as it is."""
    parts = flags.store(kernel=kernel, modules=modules, qemu=qemu, accel=accel).parts(refresh=refresh)
    if json:
        flags.print_json(
            {
                "qemu": {"path": parts.qemu.path, "version": parts.qemu.version, "origin": parts.qemu.origin},
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
