# SPDX-License-Identifier: GPL-2.0-or-later
"""`--profile NAME`: only the cases on machines of these profiles."""

from __future__ import annotations

import pytest

OPTION = "--profile"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("iov-harness").addoption(
        OPTION, action="append", metavar="NAME", help="only the cases on machines of this profile (repeatable)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases on other machines, and those on none."""
    wanted: list[str] | None = config.getoption(OPTION)
    if not wanted:
        return
    left_out = [item for item in items if _profile(item) not in wanted]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _profile(item) in wanted]


def _profile(item: pytest.Item) -> str | None:
    """Give the profile of the machine that a case asks for by its mark; None for one that asks for none."""
    callspec = getattr(item, "callspec", None)
    mark = callspec.params.get("machine") if callspec else None
    return str(mark.args[0]) if isinstance(mark, pytest.Mark) and mark.args else None
