# SPDX-License-Identifier: GPL-2.0-or-later
"""An SSH session with a guest: commands with exit status, bounded output and deadlines; files in and out."""

from __future__ import annotations

import base64
import os
import shlex
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import index
from os import fspath
from pathlib import Path
from traceback import walk_tb

import paramiko

from harness.deadline import Deadline
from harness.errors import GuestFailure, UsageError
from harness.provision.keys import Keys
from harness.qemu.log import Log
from harness.text import clipped, decoded, printable

USER = "root"
COMMAND_TIMEOUT = 30.0
"""Seconds for a command when the caller says nothing else."""
COMMAND_LIMIT = 9000
"""Bytes of a command: a longer one is refused by dropbear without a word (MAX_CMD_LEN, src/sysoptions.h)."""
OUTPUT_LIMIT = 1024 * 1024
"""Bytes kept of each of a command's streams; what comes beyond is read and dropped."""
FILE_LIMIT = 64 * 1024 * 1024
"""Bytes of a file fetched from a guest."""
FILE_TIMEOUT = 120.0
"""Seconds for a file to be moved in or out."""
_BANNER_TIMEOUT = 2.0
"""Seconds for dropbear's banner: slirp accepts a connection before the guest listens, and then nothing ever comes."""
_RETRY_PAUSE = 0.1
"""Seconds between attempts to connect."""
_CIPHERS, _KEX = ("aes128-ctr",), ("curve25519-sha256@libssh.org",)
"""Those that cost an emulated CPU least of those that paramiko and dropbear share."""
_LOOPBACK = "127.0.0.1"
_NAME_LIMIT = 200
"""Characters of a command's first line in messages about it."""
_KEY_TYPES = ("ssh-ed25519",)
_ENDED = (OSError, EOFError, paramiko.SSHException, paramiko.SFTPError)
"""What the end of a connection raises."""
_STUMBLED = (ValueError, LookupError, TypeError, AttributeError, struct.error)
"""What paramiko hands on when a guest's packet made it stumble; raised elsewhere, it is a bug of ours."""
_BROKEN = (*_ENDED, *_STUMBLED)
_PARAMIKO = Path(paramiko.__file__).parent


_Address = tuple[str, int]
_Kind = tuple[str, _Address | None, _Address | None]
"""A kind of SSH channel, and for one to a port whither and whence (RFC 4254, section 7.2)."""
Tell = Callable[[int, bytes], None]
"""Hears what a command writes while it runs: 1 or 2 for the stream, as file descriptors are numbered, and bytes."""


class GuestLost(GuestFailure):
    """The guest cannot be reached any more; the text says why, where that is known."""


class GuestTimeout(GuestFailure):
    """The guest did not finish in time."""


class CommandFailed(GuestFailure):
    """A command in the guest ended otherwise than with exit status 0, or the guest refused a file."""


@dataclass(frozen=True)
class Completed:
    """A command that ran: exit status, and what it wrote, as printable text."""

    command: str
    status: int
    stdout: str
    stderr: str
    truncated: bool = False


class Session:
    """One SSH connection to a guest."""

    def __init__(self, keys: Keys, log: Path) -> None:
        self._keys = keys
        self._log = Log(log)
        self._transport: paramiko.Transport | None = None
        self._reason = ""
        self._aborted = threading.Event()

    @property
    def broken(self) -> OSError | None:
        """Why the log does not hold all that was done; None while it does."""
        return self._log.broken

    def connect(self, port: int, deadline: Deadline) -> None:
        """Log in through `port` on loopback. Raises `GuestLost` or `DeadlineExpired`."""
        host_key, login = self._read_keys()
        while True:
            deadline.check()
            try:
                connection = socket.create_connection((_LOOPBACK, port), timeout=_BANNER_TIMEOUT)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # saves 40 ms a command: delayed ACKs
                self._handshake(connection, host_key, login, deadline, _BANNER_TIMEOUT)
            except _BROKEN as error:
                if isinstance(error, _STUMBLED) and not _in_paramiko(error):
                    raise
                final = isinstance(error, paramiko.AuthenticationException | paramiko.BadHostKeyException)
                if self._reason or (final and not deadline.expired):
                    raise self.lost(error) from error
                self._note(f"connection refused or cut ({_words(error)}), trying again")
                self._aborted.wait(min(_RETRY_PAUSE, deadline.remaining()))
            else:
                self._note("connected")
                return

    def connect_over(self, connection: socket.socket, deadline: Deadline) -> None:
        """Log in over a connection that there is already, and that ends with the session; raises as `connect`."""
        try:
            self._handshake(connection, *self._read_keys(), deadline, deadline.remaining())
        except _BROKEN as error:
            if isinstance(error, _STUMBLED) and not _in_paramiko(error):
                raise
            if deadline.expired and not self._reason:
                raise deadline.error() from error
            raise self.lost(error) from error
        self._note("connected over the guest's link")

    def run(
        self, command: str | Sequence[str], *, timeout: float = COMMAND_TIMEOUT, check: bool = False,
        tell: Tell = lambda _, __: None,
    ) -> Completed:  # fmt: skip
        """Run a command: a line for the guest's shell, or words that no shell touches; `tell` hears its output live.

        Raises `GuestTimeout`, `GuestLost`, `CommandFailed` for a command that a signal kills, and with `check` also
        for an exit status other than 0; `UsageError` for a command that is too long.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        name = _name(line)
        started = time.monotonic()
        deadline = Deadline(timeout, f"guest command {name}")
        channel = self.open(line, deadline)
        try:
            done = _collect(channel, line, deadline, tell)
        except _BROKEN as error:
            if not _in_paramiko(error):
                raise  # `tell` raised it
            raise self.lost(error) from error
        finally:
            hang_up(channel)
            self._note(f"{time.monotonic() - started:.3f} s: {line}")
        if done.status < 0:
            if channel.eof_received and not self._reason:
                raise CommandFailed(f"{name} ended without an exit status, as one does that a signal kills")
            raise self.lost(f"no exit status for {name}")
        self._note(f"exit status {done.status}; {clipped(done.stdout + done.stderr, 4000)}")
        if check and done.status != 0:
            raise CommandFailed(f"{name} ended with {done.status}: {clipped(done.stderr or done.stdout, 2000)}")
        return done

    def open(self, command: str, deadline: Deadline) -> paramiko.Channel:
        """Start a command and give the channel to it. Raises `GuestLost`, `GuestTimeout` or `UsageError`."""
        length = len(command.encode())
        if length > COMMAND_LIMIT:
            raise UsageError(f"a guest takes commands of {COMMAND_LIMIT} bytes, not {length}: put a script there first")
        return self._channel(lambda channel: channel.exec_command(command), deadline)

    def open_terminal(self, columns: int, lines: int, deadline: Deadline) -> paramiko.Channel:
        """Start a login shell on a terminal of its own and give the channel to it; raises as `open`."""

        def start(channel: paramiko.Channel) -> None:
            channel.get_pty(os.environ.get("TERM", "vt100"), columns, lines)
            channel.invoke_shell()

        return self._channel(start, deadline)

    def open_port(self, port: int, deadline: Deadline) -> paramiko.Channel:
        """Connect to a port on the guest's loopback and give the channel to it; raises as `open`."""
        return self._channel(lambda _: None, deadline, ("direct-tcpip", (_LOOPBACK, port), (_LOOPBACK, 0)))

    def _channel(
        self, start: Callable[[paramiko.Channel], None], deadline: Deadline, kind: _Kind = ("session", None, None)
    ) -> paramiko.Channel:
        if self._transport is None:
            raise GuestLost(self._reason or "there is no connection to the guest")
        try:
            channel = self._transport.open_channel(*kind, timeout=max(0.01, deadline.remaining()))
            with _closed_at(deadline, channel):
                start(channel)
        except _BROKEN as error:
            if not _in_paramiko(error):
                raise
            raise self._late_or_lost(error, deadline) from error
        return channel

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file in the guest. Raises `GuestLost`, `GuestTimeout`, or `CommandFailed` when the guest refuses."""
        # What the caller gets wrong is raised here, for in the block below it would be the guest's fault.
        content, name, bits = bytes(memoryview(data)), fspath(path), index(mode)
        with self._files(f"writing guest file {path}") as sftp:
            with sftp.open(name, "wb") as stream:
                stream.write(content)
            sftp.chmod(name, bits)

    def get(self, path: str) -> bytes:
        """Read a file of the guest, `FILE_LIMIT` bytes at most. Raises as `put`."""
        name = fspath(path)
        with self._files(f"reading guest file {path}") as sftp, sftp.open(name, "rb") as stream:
            return stream.read(FILE_LIMIT)

    def abort(self, reason: str) -> None:
        """Cut the connection, so that whoever waits on it wakes with `reason`. May be called from any thread."""
        self._reason = self._reason or reason
        self._aborted.set()
        transport = self._transport
        if transport is not None:
            transport.sock.close()
            transport.close()

    def close(self) -> None:
        """End the connection."""
        self.abort("the session was closed")
        self._log.close()

    def _read_keys(self) -> tuple[paramiko.Ed25519Key, paramiko.Ed25519Key]:
        """Give the guest's public key and our private one."""
        host_key = paramiko.Ed25519Key(data=base64.b64decode(self._keys.host_public))
        return host_key, paramiko.Ed25519Key.from_private_key_file(str(self._keys.login))

    def _handshake(
        self, connection: socket.socket, host_key: paramiko.Ed25519Key, login: paramiko.Ed25519Key, deadline: Deadline,
        patience: float,
    ) -> None:  # fmt: skip
        transport = paramiko.Transport(connection)
        try:
            self._adopt(transport)
            transport.banner_timeout, transport.handshake_timeout = patience, deadline.remaining()
            options = transport.get_security_options()
            options.ciphers, options.kex, options.key_types = _CIPHERS, _KEX, _KEY_TYPES
            transport.start_client(timeout=deadline.remaining())
            _check_host_key(transport, host_key)
            transport.auth_timeout = deadline.remaining()
            transport.auth_publickey(USER, login)
        except BaseException:
            self._transport = None
            transport.close()
            connection.close()
            raise

    def _adopt(self, transport: paramiko.Transport) -> None:
        """Make the connection the one that `abort` cuts; raises `EOFError` where that has been called already."""
        self._transport = transport
        if self._reason:
            raise EOFError

    @contextmanager
    def _files(self, what: str) -> Iterator[paramiko.SFTPClient]:
        """Give access to the guest's files; what goes wrong is raised as `put` says."""
        deadline = Deadline(FILE_TIMEOUT, what)
        channel = self._channel(lambda channel: channel.invoke_subsystem("sftp"), deadline)
        with _closed_at(deadline, channel):
            try:
                yield paramiko.SFTPClient(channel)
            except _BROKEN as error:
                if not _in_paramiko(error):
                    raise
                if isinstance(error, OSError) and not channel.closed:
                    raise CommandFailed(f"{what}: {_words(error)}") from error
                raise self._late_or_lost(error, deadline) from error
            finally:
                hang_up(channel)

    def lost(self, error: object) -> GuestLost:
        """Make the exception that says why the guest is out of reach: the known reason, else `error`."""
        return GuestLost(self._reason or f"the SSH connection to the guest broke: {_words(error)}")

    def _late_or_lost(self, error: object, deadline: Deadline) -> GuestFailure:
        return GuestTimeout(str(deadline.error())) if deadline.expired and not self._reason else self.lost(error)

    def _note(self, text: str) -> None:
        self._log.write(f"{time.time():.3f} {text}\n".encode())


def hang_up(channel: paramiko.Channel) -> None:
    """Close a channel, whatever has become of its connection."""
    with suppress(*_BROKEN):
        channel.close()


def _in_paramiko(error: BaseException) -> bool:
    """Tell whether an exception was raised in paramiko, which calls back nothing of ours that raises."""
    places = (Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__))
    return any(place.is_relative_to(_PARAMIKO) for place in places)


class _Bell(threading.Event):
    """Rings when a stream has something to read or ends; only its listener silences it.

    Channels have no such thing of their own for both streams at once but `fileno`, and whoever closes a channel with
    that while something arrives breaks the whole connection.
    """

    def clear(self) -> None:
        """Do nothing: a stream that was read empty says nothing of the other."""

    def silence(self) -> None:
        super().clear()


def _name(line: str) -> str:
    """Speak of a command in one line."""
    first, _, more = line.partition("\n")
    return f"`{first[:_NAME_LIMIT]} ...`" if more or len(first) > _NAME_LIMIT else f"`{first}`"


def _collect(channel: paramiko.Channel, command: str, deadline: Deadline, tell: Tell) -> Completed:
    """Read both streams to their end, whichever has something; raises `GuestTimeout`."""
    bell = _Bell()
    channel.in_buffer.set_event(bell)
    channel.in_stderr_buffer.set_event(bell)
    streams = (bytearray(), bytearray())
    truncated = over = False
    while not over:
        if deadline.expired or not bell.wait(deadline.remaining()):
            raise GuestTimeout(str(deadline.error()))
        bell.silence()
        over = bool(channel.eof_received or channel.closed)  # asked before reading: what came until then is read
        for number, kept, ready, receive in (
            (1, streams[0], channel.recv_ready, channel.recv),
            (2, streams[1], channel.recv_stderr_ready, channel.recv_stderr),
        ):
            if ready():
                over = False
                bell.set()  # there may be more
                data = receive(65536)
                tell(number, data)
                truncated |= len(kept) + len(data) > OUTPUT_LIMIT
                kept += data[: OUTPUT_LIMIT - len(kept)]
    if not channel.status_event.wait(deadline.remaining()):
        raise GuestTimeout(str(deadline.error()))
    return Completed(command, channel.exit_status, decoded(bytes(streams[0])), decoded(bytes(streams[1])), truncated)


@contextmanager
def _closed_at(deadline: Deadline, channel: paramiko.Channel) -> Iterator[None]:
    """Close the channel at the deadline and when the block fails: some of paramiko's waits never end by themselves."""
    timer = threading.Timer(deadline.remaining(), hang_up, [channel])
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException:
        hang_up(channel)
        raise
    finally:
        timer.cancel()


def _check_host_key(transport: paramiko.Transport, expected: paramiko.PKey) -> None:
    found = transport.get_remote_server_key()
    if found != expected:
        raise paramiko.BadHostKeyException("the guest", found, expected)


def _words(error: object) -> str:
    return clipped(printable(str(error)), 500) or type(error).__name__
