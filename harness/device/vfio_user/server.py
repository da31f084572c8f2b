# SPDX-License-Identifier: GPL-2.0-or-later
"""A device at a socket: one thread, which waits for a client, serves it to its end, and waits for the next."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from pathlib import Path
from typing import Self

from harness.device.device import CLOSE_TIMEOUT, Device, stack_of
from harness.device.vfio_user.channel import Channel
from harness.device.vfio_user.session import Session
from harness.errors import UsageError

_log = logging.getLogger(__name__)


class Server:
    """Serves `device` at the UNIX socket `path` while it is open. Raises `UsageError` where none can be there.

    QEMU connects once for every time that the device is plugged in. See `Session` for `memory_files`.
    """

    def __init__(self, device: Device, path: Path, *, memory_files: bool = False) -> None:
        self.device = device
        self.path = path
        self._memory_files = memory_files
        self._closing = False
        self._session: Session | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(path))
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise UsageError(f"socket {path}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._serve, name=f"vfio-user {path.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until it is closed by another thread."""
        self._thread.join()

    def close(self) -> None:
        """End the session that there is, and take no other; nothing of it is left when this returns.

        But for a hook or a job that does not return: then the device is `broken`, and its thread stays behind.
        """
        self._closing = True
        self.device.faults.clear()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        session = self._session
        if session is not None:
            session.disconnect()
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            self.device.fail(RuntimeError(f"a hook does not return: {stack_of(self._thread)}"))
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self.device.close()

    def _serve(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._closing:
                    self.device.fail(error)  # too many open files: nobody will be served any more, and is to know why
                return
            self._session = Session(self.device, Channel(connection), memory_files=self._memory_files)
            if self._closing:
                self._session.disconnect()
            self._session.run()
            self._session = None
