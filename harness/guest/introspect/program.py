# SPDX-License-Identifier: GPL-2.0-or-later
"""Attaching drgn to a QEMU: the connection, bounded in time, and the debug information that belongs to its kernel."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drgn import FaultError, MissingDebugInfoError, Program, ProgramFlags

from harness.errors import HarnessError
from harness.guest.introspect.failures import CannotIntrospect
from harness.guest.introspect.linked import Linked, linked

_GREETING_TIMEOUT = 5.0
"""Seconds for QEMU to greet: it does so at once, unless another client has the socket, for it takes one at a time."""
_ANSWER_TIMEOUT = 20
"""Seconds for QEMU to answer drgn, which waits without a limit of its own."""


class NotAttached(HarnessError):
    """The machine's second QMP socket does not let anyone in."""


@contextmanager
def attached(at: Path, vmlinux: Path) -> Iterator[Program]:
    """Give drgn's view of the guest whose QEMU listens at `at`, which others may use again when the block ends.

    Raises `NotAttached`, and `CannotIntrospect` where `vmlinux` is not the kernel that runs.
    """
    with _greeted(at) as connection:
        program = Program()
        _load(program, connection, vmlinux)
        yield program


@contextmanager
def _greeted(at: Path) -> Iterator[socket.socket]:
    """Connect, and wait until QEMU has something to say, which is left for drgn to read."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_GREETING_TIMEOUT)
        try:
            connection.connect(str(at))
        except OSError as error:
            raise NotAttached(f"{at}: cannot connect to QEMU ({error})") from error
        if not select.select([connection], [], [], _GREETING_TIMEOUT)[0]:
            raise NotAttached(f"{at}: QEMU does not greet: is another debugger connected? (It takes one at a time.)")
        connection.setblocking(True)  # noqa: FBT003 - socket's own way
        limit = struct.pack("ll", _ANSWER_TIMEOUT, 0)  # struct timeval
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            yield connection
        finally:
            with suppress(OSError):  # QEMU has gone
                connection.shutdown(socket.SHUT_RDWR)  # it is free at once, though drgn may still hold its copy


def _load(program: Program, connection: socket.socket, vmlinux: Path) -> None:
    try:
        program.set_qemu_qmp(os.dup(connection.fileno()))  # which drgn closes, at the end of the program
    except Exception as error:  # drgn has no narrower one
        raise NotAttached(f"drgn cannot attach to QEMU: {error}") from error
    place = None
    if not program.flags & ProgramFlags.IS_LINUX_KERNEL:
        place = linked(vmlinux)
        program.set_linux_kernel_custom(place.vmcoreinfo, True)  # noqa: FBT003 - drgn's own way
    program.set_enabled_debug_info_finders([])  # not what happens to lie on this host, nor from the network
    try:
        program.load_debug_info([vmlinux], main=True)
    except MissingDebugInfoError as error:
        raise CannotIntrospect(f"{vmlinux} is not the kernel that runs, or has no debug information") from error
    if place is not None:
        _check_place(program, place)


def _check_place(program: Program, place: Linked) -> None:
    """Refuse a kernel that is another than its vmlinux, or lies elsewhere; nothing else has told where."""
    try:
        banner = program.read(place.address, len(place.banner))
    except FaultError:
        banner = b""
    if banner != place.banner:
        raise CannotIntrospect(
            "the guest's kernel is not where its vmlinux says, and does not tell QEMU where it is: "
            "that takes CONFIG_VMCORE_INFO (by CONFIG_PROC_KCORE or CRASH_DUMP) and CONFIG_FW_CFG_SYSFS"
        )
