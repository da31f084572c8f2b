# SPDX-License-Identifier: GPL-2.0-or-later
"""Serving a device by hand: where its socket may be, what is told of it, and how it ends."""

from __future__ import annotations

import grp
import json
import os
import pwd
import queue
import shlex
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

import typer

from harness.cli import output, terminal
from harness.device.device import CONFIG, Device
from harness.device.log import AccessLog, Entry, Kind, plain
from harness.device.vfio_user.server import Server
from harness.errors import CouldNotRun, UsageError
from harness.guest.ssh import Tell
from harness.outcome import Exit

_LONGEST = 107
"""Bytes of a socket's path: `sun_path` has 108, one of them for the NUL at its end (unix(7))."""
_ONLY_OWNER = 0o177
"""The umask that gives a socket the mode 0600: whoever may connect is given the guest's memory."""
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MORE, _END = "more", "end"
_WHOLE = 8
"""Bytes of an access whose value is shown; QEMU reads all of configuration space in one, for itself."""


def serve(device: Device, name: str, path: Path, *, log: Path | None, accesses: bool) -> None:
    """Serve a device until a signal ends it, and tell of it as it happens; its socket is gone when this returns.

    With `accesses` they are printed; into the file `log` goes everything, as it goes into a run's record. Raises
    `UsageError` where no socket can be, or no log; `CouldNotRun` when the log could not be written to its end;
    `typer.Exit` when the model itself was wrong.
    """
    _check(path)
    followed = device.log = _Followed()
    with ExitStack() as stack:
        telling = _Telling(device, accesses, stack.enter_context(terminal.shown()), log)
        stack.callback(telling.close)
        stack.enter_context(_ended_by_signals(followed.end))
        stack.callback(lambda: telling.tell(*followed.fresh()))
        stack.enter_context(_served(device, path))
        output.console(stderr=True).print(
            f"{name} is served at {path}, until Ctrl-C. QEMU takes it with (rp1: a root port of yours)\n"
            f"-device {shlex.quote(_option(path))}"
        )
        while followed.more():
            telling.tell(*followed.fresh())
    if telling.broken is not None:
        raise CouldNotRun(f"--log {log}: {telling.broken.strerror}: what came then is not in it")
    if device.broken is not None:
        raise typer.Exit(Exit.ERROR)  # its traceback was told when it happened


class _Followed(AccessLog):
    """A device's log, for one thread that follows it while others add to it."""

    def __init__(self) -> None:
        super().__init__()
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()  # a signal handler may call its put()
        self._seen = 0

    def add(self, kind: Kind, region: int = -1, offset: int = 0, length: int = 0, value: int = 0) -> None:
        """Note what has just happened, and wake the follower."""
        super().add(kind, region, offset, length, value)
        if self._events.empty():
            self._events.put(_MORE)

    def end(self) -> None:
        """Let the follower stop."""
        self._events.put(_END)

    def more(self) -> bool:
        """Wait until there is more; False when there is to be no more."""
        return self._events.get() is not _END

    def fresh(self) -> tuple[list[Entry], int]:
        """Give what was added since the last time, and how many entries more, which were not kept."""
        with self._changed:
            entries = self.entries(since=self._seen)
            lost = self.count - self._seen - len(entries)
            self._seen = self.count
        return entries, lost


class _Telling:
    """Tells of what happens to a device: connections on standard error, accesses on standard output, all in a file."""

    def __init__(self, device: Device, accesses: bool, show: Tell, log: Path | None) -> None:
        self._device = device
        self._show = show if accesses else None
        self._log = None if log is None else _opened(log)
        self.broken: OSError | None = None

    def tell(self, entries: list[Entry], lost: int) -> None:
        """Tell of these entries, before which `lost` others were."""
        console = output.console(stderr=True)
        if lost:
            console.print(f"{lost} accesses came faster than they could be told of")
        if self._show is not None and entries:
            self._show(1, "".join(f"{line(self._device, entry)}\n" for entry in entries).encode())
        self._write("".join(json.dumps(plain(entry)) + "\n" for entry in entries))
        for entry in entries:
            if entry.kind in (Kind.CONNECTED, Kind.DISCONNECTED):
                console.print(f"QEMU has {entry.kind}")

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()

    def _write(self, text: str) -> None:
        if self._log is None:
            return
        try:
            self._log.write(text)
            self._log.flush()
        except OSError as error:
            self.broken, self._log = error, None


def line(device: Device, entry: Entry) -> str:
    """Describe an entry of a device's log in a line, with the names of the registers that it touches."""
    head = f"{entry.time:10.6f}  {entry.kind:<9}"
    if entry.kind in (Kind.DMA_READ, Kind.DMA_WRITE):
        return f"{head}  {entry.length} bytes at {entry.offset:#x}"
    if entry.kind is Kind.INTERRUPT:
        return f"{head}  vector {entry.value}"
    if entry.kind not in (Kind.READ, Kind.WRITE):
        return head.rstrip()
    region = "config" if entry.region == CONFIG else f"BAR {entry.region}"
    access = f"{head}  {region} {entry.offset:#05x}  {entry.length} bytes"
    if entry.length > _WHOLE:
        return access
    return f"{access} {entry.value:#0{2 + 2 * entry.length}x}  {', '.join(_touched(device, entry))}".rstrip()


def _touched(device: Device, entry: Entry) -> Iterator[str]:
    bank = device.config if entry.region == CONFIG else device.bars[entry.region]
    for one in bank.registers:
        if one.offset < entry.offset + entry.length and entry.offset < one.end:
            index = max(0, entry.offset - one.offset) // one.size
            yield one.name if one.count == 1 else f"{one.name}[{index}]"


def _opened(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--log {path}: {error.strerror}") from error


def _option(path: Path) -> str:
    """Give what QEMU is told; the path is whole where a socket's path may be that long."""
    whole = path.absolute()
    shown = path if len(os.fsencode(whole)) > _LONGEST else whole
    return json.dumps({"driver": "vfio-user-pci", "bus": "rp1", "socket": {"type": "unix", "path": str(shown)}})


@contextmanager
def _served(device: Device, path: Path) -> Iterator[None]:
    """Serve a device at a socket that only its owner may connect to, and which is gone afterwards.

    Nobody knows whether QEMU shares a file of memory or maps it privately: DMA by message is right for both.
    """
    before = os.umask(_ONLY_OWNER)
    try:
        server = Server(device, path, memory_files=False)
    finally:
        os.umask(before)
    try:
        with server:
            yield
    except KeyboardInterrupt:  # the second one: a model that hangs keeps the server from closing
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` for the first signal that is to end a program; a second one interrupts whatever is going on."""
    ending = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal ending
        if ending:
            raise KeyboardInterrupt
        ending = True
        end()

    heard = [number for number in _ENDS if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup wants it
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(path: Path) -> None:
    """Raise `UsageError` where no socket can be, or where any user could put another in its place."""
    size = len(os.fsencode(path))
    if size > _LONGEST:
        raise UsageError(f"--socket {path}: {size} bytes, where a socket's path has {_LONGEST} at most")
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise UsageError(f"--socket {path}: folder {path.parent}: {error.strerror}") from error
    if not stat.S_ISDIR(folder.st_mode):
        raise UsageError(f"--socket {path}: {path.parent} is no folder")
    if _others_may_replace(folder):
        raise UsageError(
            f"--socket {path}: other users may replace what lies in {path.parent}, and QEMU gives a device the guest's "
            "memory; choose a folder of your own"
        )
    if path.is_symlink() or path.exists():
        raise UsageError(f"--socket {path}: {_what_is_there(path)}")


def _others_may_replace(folder: os.stat_result) -> bool:
    """Tell whether a folder is anybody's but this user's (and root's), or of a group that has other members."""
    if folder.st_uid not in (0, os.getuid()):
        return True
    if folder.st_mode & stat.S_ISVTX:
        return False
    return bool(folder.st_mode & stat.S_IWOTH) or bool(folder.st_mode & stat.S_IWGRP and _is_shared(folder.st_gid))


def _is_shared(group: int) -> bool:
    """Tell whether others than this user are in a group: a user's own group, of the same name, has nobody else."""
    try:
        entry, user = grp.getgrgid(group), pwd.getpwuid(os.getuid())
    except KeyError:
        return True
    return group != user.pw_gid or bool(set(entry.gr_mem) - {user.pw_name}) or entry.gr_name != user.pw_name


def _what_is_there(path: Path) -> str:
    if not path.is_socket():
        return "there is something already, and no socket; choose another path"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return f"nobody listens there any more; remove what is left: rm {shlex.quote(str(path))}"
        except OSError:
            pass  # it may be busy, or another user's
    return "it is in use; choose another path"
