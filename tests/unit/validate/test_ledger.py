# SPDX-License-Identifier: GPL-2.0-or-later
"""What is noted stays, whatever happens to who noted it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.errors import CouldNotRun
from harness.validate.ledger import Ledger


def test_what_was_noted_is_found_again(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.found("cell", "a") is None
        ledger.note("cell", "a", {"code": 1})
        ledger.note("build", "a", [1])
        ledger.note("cell", "a", {"code": 0})
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.found("cell", "a") == {"code": 0}
        assert ledger.found("build", "a") == [1]


def test_a_note_survives_sigkill(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Ledger(tmp_path / "l").note("cell", "a", 7)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.found("cell", "a") == 7


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b"hello " * 1000)
    with pytest.raises(CouldNotRun, match="file is not a database; --fresh begins anew"):
        Ledger(tmp_path / "l")
