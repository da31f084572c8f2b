# SPDX-License-Identifier: GPL-2.0-or-later
"""An SSH server on loopback in place of a guest's, which does to connections and commands what a test tells it to."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from harness.provision.keys import Keys

Command = Callable[[paramiko.Channel], None]
Meeting = Callable[[socket.socket], None]

ALLOWED = paramiko.common.AUTH_SUCCESSFUL
REFUSED = paramiko.common.AUTH_FAILED


def ended(channel: paramiko.Channel, *, stdout: bytes = b"", stderr: bytes = b"", status: int | None = 0) -> None:
    """Do as a command that writes and ends."""
    channel.sendall(stdout)
    channel.sendall_stderr(stderr)
    channel.shutdown_write()
    if status is not None:
        channel.send_exit_status(status)
    channel.close()


def saying(stdout: bytes = b"", stderr: bytes = b"", status: int | None = 0) -> Command:
    """Make a command that writes and ends."""
    return lambda channel: ended(channel, stdout=stdout, stderr=stderr, status=status)


@dataclass
class Sshd:
    """The server. `meetings` are done, in turn, with the first connections instead of speaking SSH on them."""

    keys: Keys
    host_key: paramiko.PKey | None = None
    commands: dict[str, Command] = field(default_factory=dict)
    sftp: Command | None = None
    meetings: list[Meeting] = field(default_factory=list)
    accepts_key: bool = True
    answers_requests: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    started: list[str] = field(default_factory=list)
    transports: list[paramiko.Transport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers_requests.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def run(self, command: Command, channel: paramiko.Channel) -> None:
        """Let a command run beside the connection's own thread, once that has answered the request."""
        transport = channel.get_transport()
        assert isinstance(transport, _Transport)
        transport.answered.clear()

        def work() -> None:
            transport.answered.wait()
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                command(channel)

        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def hang(self) -> None:
        """Wait until the server is closed."""
        self.released.wait()

    def cut(self) -> None:
        """Cut all connections, as a dying QEMU does."""
        for transport in self.transports:
            transport.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End, whatever still waits."""
        self.released.set()
        self.answers_requests.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self.transports:
            transport.close()
        for thread in (*self._threads, *self.transports):
            thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                if self.meetings:
                    with connection, contextlib.suppress(OSError):
                        self.meetings.pop(0)(connection)
                else:
                    self._speak(connection)

    def _speak(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = _Transport(connection)
        transport.add_server_key(self.host_key or host_key(self.keys))
        self.transports.append(transport)
        transport.start_server(event=threading.Event(), server=_Behaviour(self))


class _Transport(paramiko.Transport):
    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.answered = threading.Event()

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc] # it is not told of in public
        if threading.current_thread() is self:
            self.answered.set()


class _Behaviour(paramiko.ServerInterface):
    def __init__(self, server: Sshd) -> None:
        self._server = server

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        authorized = self._server.keys.authorized.read_text(encoding="ascii").split()[1]
        return ALLOWED if (username, key.get_base64()) == ("root", authorized) and self._server.accepts_key else REFUSED

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del chanid
        return 0 if kind == "session" else 1

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.started.append(command.decode())
        self._server.answers_requests.wait()
        known = self._server.commands.get(command.decode())
        if known is not None:
            self._server.run(known, channel)
        return known is not None

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self._server.answers_requests.wait()
        if self._server.sftp is not None:
            self._server.run(self._server.sftp, channel)
            return True
        return super().check_channel_subsystem_request(channel, name)


def host_key(keys: Keys) -> paramiko.PKey:
    """Read the guest's private host key, which lies there as dropbear wants it."""
    stored = keys.host.read_bytes()
    (length,) = struct.unpack_from(">I", stored)
    return key_of(Ed25519PrivateKey.from_private_bytes(stored[length + 8 :][:32]))


def key_of(key: Ed25519PrivateKey) -> paramiko.PKey:
    """Give a key to paramiko."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return paramiko.Ed25519Key.from_private_key(io.StringIO(pem.decode()))
