# SPDX-License-Identifier: GPL-2.0-or-later
"""Where machines are started, without a QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Fake, Lab

from harness.machine import attempts


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Make a place where nothing was started yet."""
    made = Lab(tmp_path)
    (tmp_path / "qemu").touch()
    monkeypatch.setattr(
        attempts,
        "Machine",
        lambda spec, directory: Fake(made, spec, directory),
    )
    yield made
    for cache in made.caches:
        cache.release()
