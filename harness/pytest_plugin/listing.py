# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests show which rows of the catalogue, written down for `harness test --rows`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.pytest_plugin.marks import rows


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("iov-harness").addoption(
        "--list-rows", type=Path, metavar="FILE", help="write the rows of each test that is collected, as JSON"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the list, by the ids of the tests."""
    path: Path | None = session.config.getoption("--list-rows")
    if path is not None:
        path.write_text(json.dumps({item.nodeid: rows(item) for item in session.items}), encoding="utf-8")
