# SPDX-License-Identifier: GPL-2.0-or-later
"""An SSH server in this process, and the keys of harness and guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sshd import Sshd

from harness.provision import keys as provision
from harness.provision.cache import Cache
from harness.provision.keys import Keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Make the keys of harness and guest."""
    return provision.provide(Cache(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def sshd(keys: Keys) -> Iterator[Sshd]:
    """Make a server that lets the harness in."""
    server = Sshd(keys)
    yield server
    server.close()
