# SPDX-License-Identifier: GPL-2.0-or-later
"""An SSH session with a guest: commands with exit status, bounded output and deadlines; files in and out."""

from __future__ import annotations

import base64
import os
import select
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from harness.deadline import Deadline
from harness.errors import GuestFailure
from harness.provision.keys import Keys
from harness.text import clipped, decoded

USER = "root"
COMMAND_TIMEOUT = 30.0
"""Seconds for a command when the caller says nothing else."""
OUTPUT_LIMIT = 1024 * 1024
"""Bytes kept of each of a command's streams; what comes beyond is read and dropped."""
FILE_LIMIT = 64 * 1024 * 1024
"""Bytes of a file fetched from a guest."""
_BANNER_TIMEOUT = 2.0
"""Seconds for dropbear's banner: slirp accepts a connection before the guest listens, and then nothing ever comes."""
_CIPHERS = ("aes128-ctr",)
"""The one that costs an emulated CPU least of those that paramiko and dropbear share."""


class GuestLost(GuestFailure):
    """The guest cannot be reached any more; the text says why, where that is known."""


class GuestTimeout(GuestFailure):
    """The guest did not finish in time."""


class CommandFailed(GuestFailure):
    """A command in the guest ended with another exit status than 0."""


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
        self._port = 0
        self._keys = keys
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._transport: paramiko.Transport | None = None
        self._reason = ""

    @property
    def port(self) -> int:
        """The port on loopback that leads to the guest's SSH."""
        return self._port

    def connect(self, port: int, deadline: Deadline) -> None:
        """Log in through `port` on loopback. Raises `GuestLost` or `DeadlineExpired`."""
        self._port = port
        host_key = paramiko.Ed25519Key(data=base64.b64decode(self._keys.host_public))
        login = paramiko.Ed25519Key.from_private_key_file(str(self._keys.login))
        while True:
            deadline.check()
            try:
                self._transport = self._handshake(host_key, login)
            except (OSError, EOFError, paramiko.SSHException) as error:
                if self._reason or isinstance(error, paramiko.AuthenticationException):
                    raise self.lost(error) from error
                self._note(f"connection refused or cut ({error}), trying again")
            else:
                self._note("connected")
                return

    def run(self, command: str | Sequence[str], *, timeout: float = COMMAND_TIMEOUT, check: bool = False) -> Completed:
        """Run a command: a line for the guest's shell, or words that no shell touches.

        Raises `GuestTimeout`, `GuestLost`, and with `check` `CommandFailed` for an exit status other than 0.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        started = time.monotonic()
        deadline = Deadline(timeout, f"guest command `{line}`")
        channel = self.open(line, deadline)
        try:
            done = _collect(channel, line, deadline)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self.lost(error) from error
        finally:
            channel.close()
            self._note(f"{time.monotonic() - started:.3f} s: {line}")
        if done.status < 0:
            raise self.lost(f"no exit status for `{line}`")
        self._note(f"exit status {done.status}; {clipped(done.stdout + done.stderr, 4000)}")
        if check and done.status != 0:
            raise CommandFailed(f"`{line}` ended with {done.status}: {clipped(done.stderr or done.stdout, 2000)}")
        return done

    def open(self, command: str, deadline: Deadline) -> paramiko.Channel:
        """Start a command and give the channel to it. Raises `GuestLost` or `GuestTimeout`."""
        return self._channel(lambda channel: channel.exec_command(command), deadline)

    def open_terminal(self, columns: int, lines: int, deadline: Deadline) -> paramiko.Channel:
        """Start a login shell on a terminal of its own and give the channel to it; raises as `open`."""

        def start(channel: paramiko.Channel) -> None:
            channel.get_pty(os.environ.get("TERM", "vt100"), columns, lines)
            channel.invoke_shell()

        return self._channel(start, deadline)

    def _channel(self, start: Callable[[paramiko.Channel], None], deadline: Deadline) -> paramiko.Channel:
        if self._transport is None:
            raise GuestLost(self._reason or "there is no connection to the guest")
        try:
            channel = self._transport.open_session(timeout=max(0.01, deadline.remaining()))
            start(channel)
        except (OSError, EOFError, paramiko.SSHException) as error:
            if deadline.expired:
                raise GuestTimeout(str(deadline.error())) from error
            raise self.lost(error) from error
        return channel

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file in the guest. Raises `GuestLost`, or `CommandFailed` when the guest refuses."""
        with self._sftp() as sftp:
            try:
                with sftp.open(path, "wb") as stream:
                    stream.write(data)
                sftp.chmod(path, mode)
            except OSError as error:
                raise CommandFailed(f"guest file {path} cannot be written: {error}") from error

    def get(self, path: str) -> bytes:
        """Read a file of the guest, `FILE_LIMIT` bytes at most. Raises as `put`."""
        with self._sftp() as sftp:
            try:
                with sftp.open(path, "rb") as stream:
                    return stream.read(FILE_LIMIT)
            except OSError as error:
                raise CommandFailed(f"guest file {path} cannot be read: {error}") from error

    def abort(self, reason: str) -> None:
        """Cut the connection, so that whoever waits on it wakes with `reason`. May be called from any thread."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.sock.close()
            self._transport.close()

    def close(self) -> None:
        """End the connection."""
        self.abort("the session was closed")
        self._log.close()

    def _handshake(self, host_key: paramiko.Ed25519Key, login: paramiko.Ed25519Key) -> paramiko.Transport:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=_BANNER_TIMEOUT)
        transport = paramiko.Transport(connection)
        try:
            transport.banner_timeout = _BANNER_TIMEOUT
            transport.get_security_options().ciphers = _CIPHERS
            transport.connect(hostkey=host_key, username=USER, pkey=login)
        except BaseException:
            transport.close()
            raise
        return transport

    def _sftp(self) -> paramiko.SFTPClient:
        if self._transport is None:
            raise GuestLost(self._reason or "there is no connection to the guest")
        try:
            client = paramiko.SFTPClient.from_transport(self._transport)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self.lost(error) from error
        assert client is not None  # noqa: S101 - paramiko gives None only for a transport that is not active
        channel = client.get_channel()
        assert channel is not None  # noqa: S101 - it has just been opened
        channel.settimeout(COMMAND_TIMEOUT)
        return client

    def lost(self, error: object) -> GuestLost:
        """Make the exception that says why the guest is out of reach: the known reason, else `error`."""
        return GuestLost(self._reason or f"the SSH connection to the guest broke: {error}")

    def _note(self, text: str) -> None:
        if not self._log.closed:
            self._log.write(f"{time.time():.3f} {text}\n")


def _collect(channel: paramiko.Channel, command: str, deadline: Deadline) -> Completed:
    """Read both streams to their end, whichever has something; raises `GuestTimeout`."""
    streams = (bytearray(), bytearray())
    truncated = False
    while True:
        if not select.select([channel], [], [], deadline.remaining())[0]:
            raise GuestTimeout(str(deadline.error()))
        for kept, ready, receive in (
            (streams[0], channel.recv_ready, channel.recv),
            (streams[1], channel.recv_stderr_ready, channel.recv_stderr),
        ):
            while ready():
                data = receive(65536)
                truncated |= len(kept) + len(data) > OUTPUT_LIMIT
                kept += data[: OUTPUT_LIMIT - len(kept)]
        if channel.eof_received or channel.closed:
            break
    if not channel.status_event.wait(deadline.remaining()):
        raise GuestTimeout(str(deadline.error()))
    return Completed(command, channel.exit_status, decoded(bytes(streams[0])), decoded(bytes(streams[1])), truncated)
