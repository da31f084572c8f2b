# SPDX-License-Identifier: GPL-2.0-or-later
"""The SSH keys of harness and guest: made once per cache, so that a guest's host key can be pinned."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.provision.cache import Cache

_TYPE = b"ssh-ed25519"
_PRIVATE = 0o600


@dataclass(frozen=True)
class Keys:
    """The files of a key pair for logging in, and of the guest's host key."""

    folder: Path
    content: str

    @property
    def login(self) -> Path:
        """The private key to log in with, in OpenSSH's format."""
        return self.folder / "id_ed25519"

    @property
    def authorized(self) -> Path:
        """The guest's `authorized_keys`."""
        return self.folder / "authorized_keys"

    @property
    def host(self) -> Path:
        """The guest's private host key, in dropbear's format."""
        return self.folder / "dropbear_ed25519_host_key"

    @property
    def host_public(self) -> str:
        """The guest's public host key, base64 as in `known_hosts`."""
        return (self.folder / "host_key.pub").read_text(encoding="ascii").split()[1]


def provide(cache: Cache) -> Keys:
    """Give the keys of this cache, made when they are not there."""
    entry = cache.entry("keys", "ed25519", "SSH keys of harness and guests", _make)
    return Keys(entry.path, entry.content)


def _make(folder: Path) -> dict[str, Any]:
    login, host = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    keys = Keys(folder, "")
    openssh = login.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    _write(keys.login, openssh)
    _write(keys.authorized, _public_line(login))
    _write(keys.host, _dropbear(host))
    _write(folder / "host_key.pub", _public_line(host))
    return {}


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=_PRIVATE)  # private before there is anything to read
    path.write_bytes(data)


def _public_line(key: Ed25519PrivateKey) -> bytes:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _TYPE + b" " + base64.b64encode(_string(_TYPE) + _string(raw)) + b" iov-harness\n"


def _dropbear(key: Ed25519PrivateKey) -> bytes:
    """Give a private key as dropbear stores it: type, then seed and public key as one string.

    See `buf_put_ed25519_priv_key()` in dropbear's src/ed25519.c.
    """
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _string(_TYPE) + _string(seed + public)


def _string(data: bytes) -> bytes:
    """Give an SSH string: its length in 4 bytes, big endian, then its bytes (RFC 4251, section 5)."""
    return struct.pack(">I", len(data)) + data
