# SPDX-License-Identifier: GPL-2.0-or-later
"""What `harness test --against` exits with where a run went wrong as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import comparison
from harness.cli.comparison import Ran
from harness.outcome import Exit, Outcome, Verdict

PASSED = (Verdict(test="a", outcome=Outcome.PASS),)


def ran(kernel: str, *verdicts: Verdict, code: int = Exit.OK, interrupted: bool = False) -> Ran:
    return Ran(kernel, Path(f"/runs/{kernel}"), verdicts, code, interrupted=interrupted)


@pytest.mark.parametrize(
    ("here", "there", "code"),
    [
        (ran("x", *PASSED), ran("y", *PASSED), Exit.OK),
        (ran("x", *PASSED, code=Exit.ERROR), ran("y", *PASSED), Exit.ERROR),
        (ran("x", *PASSED), ran("y", *PASSED, code=Exit.FAIL, interrupted=True), Exit.INTERRUPTED),
        (ran("x", *PASSED), ran("y", code=Exit.ERROR), Exit.ERROR),
        (ran("x", *PASSED), ran("y", code=Exit.USAGE), Exit.USAGE),
        (ran("x", *PASSED), ran("y"), Exit.EMPTY),
    ],
)
def test_a_run_that_went_wrong_as_a_whole_is_no_comparison(
    here: Ran, there: Ran, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert comparison.told(here, there, json=False) == code
    said = capfd.readouterr().out
    assert ("nothing to compare: the run on y did not come to its end" in said) == there.stopped
    assert comparison.told(here, there, json=True) == code
    told = json.loads(capfd.readouterr().out)
    assert (told["exit"], told["against"]["kernel"], told["against"]["interrupted"]) == (code, "y", there.interrupted)
    assert [one["test"] for one in told["tests"]] == ["a"]
