# SPDX-License-Identifier: GPL-2.0-or-later
"""The sockets between one QEMU and the harness. They listen before QEMU starts, which is handed them open."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.qemu.template import Wiring

_NAMES = ("qmp", "debug", "console", "link")


class Sockets:
    """The listening ends, in a folder that only this user can enter; Python devices are served there too."""

    def __init__(self, folder: Path, listeners: dict[str, socket.socket]) -> None:
        self.folder = folder
        self._listeners = listeners

    @property
    def fds(self) -> list[int]:
        """The file descriptors that QEMU inherits."""
        return [listener.fileno() for listener in self._listeners.values()]

    def wiring(self, ssh_port: int) -> Wiring:
        """Give what a template says of them."""
        qmp, debug, console, link = (f"socket,fd={fd},server=on" for fd in self.fds)
        # QEMU waits for the one who reads the console, so that not a byte is lost.
        return Wiring(
            f"{qmp},wait=off", f"{debug},wait=off", f"{console},wait=on", f"{link},wait=off", ssh_port,
            devices=str(devices_folder(self.folder)),
        )  # fmt: skip

    def connected(self, name: str) -> socket.socket:
        """Connect to one of them. Before QEMU starts: the kernel keeps the connection, and nothing has to be polled."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(_path(self.folder, name)))
        return connection


@contextmanager
def opened(folder: Path) -> Iterator[Sockets]:
    """Let the sockets listen while the block lasts, in which QEMU is started."""
    with ExitStack() as stack:
        listeners = {}
        for name in _NAMES:
            listeners[name] = stack.enter_context(socket.socket(socket.AF_UNIX))
            listeners[name].bind(str(_path(folder, name)))
            listeners[name].listen(1)
        yield Sockets(folder, listeners)


def devices_folder(folder: Path) -> Path:
    """Give where Python devices are served, apart from the machine's own sockets."""
    return folder / "devices"


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.sock"
