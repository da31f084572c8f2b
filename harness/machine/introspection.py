# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking into the kernel of a machine: with the right debug information, and where wanted with its CPUs stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.guest.introspect.failures import CannotIntrospect
from harness.provision.kernel import Kernel
from harness.qemu.qmp import CommandRefused, Monitor, QmpLost

if TYPE_CHECKING:
    from harness.guest.introspect.state import KernelState


def debug_info(kernel: Kernel) -> Path:
    """Give a kernel's vmlinux with debug information; raises `CannotIntrospect` where there is none."""
    if kernel.vmlinux is None:
        what = f"kernel {kernel.name} has no debug information (vmlinux with DWARF), which introspection needs"
        raise CannotIntrospect(f"{what}; those of `harness kernel build` have it")
    return kernel.vmlinux


@contextmanager
def opened(kernel: Kernel, socket: Path, qmp: Monitor, *, paused: bool) -> Iterator[KernelState]:
    """Look into a running kernel; see `Machine.introspect`."""
    from harness.guest.introspect import state  # drgn takes a tenth of a second to import, and few commands need it

    vmlinux = debug_info(kernel)
    with ExitStack() as stack:
        if paused:
            stack.enter_context(_stopped(qmp))
        yield stack.enter_context(state.attached(socket, vmlinux))


@contextmanager
def _stopped(qmp: Monitor) -> Iterator[None]:
    """Stop the virtual CPUs while the block lasts, where they run at all: after a panic they do not."""
    if not qmp.execute("query-status")["running"]:
        yield
        return
    qmp.execute("stop")
    try:
        yield
    finally:
        with suppress(QmpLost, CommandRefused):  # a machine that was lost meanwhile stays as it is
            qmp.execute("cont")
