# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys as those read them who need them: paramiko to log in, dropbear to be known."""

from __future__ import annotations

import base64
import os
import stat
import struct
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.provision import keys
from harness.provision.cache import Cache
from harness.provision.keys import Keys


def strings(data: bytes) -> list[bytes]:
    """Take SSH strings apart (RFC 4251, section 5)."""
    found = []
    while data:
        (length,) = struct.unpack_from(">I", data)
        assert len(data) >= 4 + length
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def provided(root: Path) -> Keys:
    cache = Cache(root)
    try:
        return keys.provide(cache)
    finally:
        cache.release()


@pytest.fixture
def made(tmp_path: Path) -> Keys:
    """Give the keys of an empty cache."""
    return provided(tmp_path)


def test_nobody_else_can_read_them_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = provided(tmp_path).folder
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.suffix != ".json"}
    assert modes == dict.fromkeys(("id_ed25519", "authorized_keys", "dropbear_ed25519_host_key", "host_key.pub"), 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_login_key_is_one_that_the_guest_lets_in(made: Keys) -> None:
    key = paramiko.Ed25519Key.from_private_key_file(str(made.login))
    kind, public, comment = made.authorized.read_text().splitlines()[0].split(" ")
    assert (kind, public, comment) == ("ssh-ed25519", key.get_base64(), "iov-harness")


def test_the_host_key_is_in_dropbears_format(made: Keys) -> None:
    """Two strings, as dropbear's src/ed25519.c reads them: the type, then the seed with the public key."""
    kind, pair = strings(made.host.read_bytes())
    assert kind == b"ssh-ed25519"
    assert len(pair) == 64
    assert Ed25519PrivateKey.from_private_bytes(pair[:32]).public_key().public_bytes_raw() == pair[32:]


def test_the_public_host_key_is_that_of_the_private_one(made: Keys) -> None:
    _, pair = strings(made.host.read_bytes())
    assert strings(base64.b64decode(made.host_public)) == [b"ssh-ed25519", pair[32:]]
    assert paramiko.Ed25519Key(data=base64.b64decode(made.host_public)).get_base64() == made.host_public


def test_host_and_login_have_different_keys(made: Keys) -> None:
    assert made.host_public not in made.authorized.read_text()


def test_a_cache_has_the_same_keys_ever_after_and_another_cache_others(made: Keys, tmp_path: Path) -> None:
    again = provided(tmp_path)
    assert again == made
    assert again.content
    other = provided(tmp_path / "other")
    assert other.login.read_bytes() != made.login.read_bytes()
    assert other.host_public != made.host_public
    assert other.content != made.content


def test_keys_that_were_damaged_are_made_anew_all_together(made: Keys, tmp_path: Path) -> None:
    before = made.host_public
    made.login.write_text("-----BEGIN")
    again = provided(tmp_path)
    assert paramiko.Ed25519Key.from_private_key_file(str(again.login)).get_base64() in again.authorized.read_text()
    assert again.host_public != before
