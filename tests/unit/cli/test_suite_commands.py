# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness test --rows` and `harness validate mutants`: what they print, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commandline import Terminal

from harness.cli import mutants as command
from harness.outcome import Outcome, Verdict
from harness.validate import mutants
from harness.validate.mutants import Examined, Mutant

BUSY = "tests/guest/sriov/test_numvfs.py::test_fewer_vfs_are_a_change_too[igb-stub]"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capfd)


def test_rows_come_with_their_tests_and_what_these_said_last_on_that_kernel(terminal: Terminal) -> None:
    for kernel, outcome in (("debian-6.12", Outcome.PASS), ("debian-7.2", Outcome.FAIL)):
        folder = terminal.cwd / "build" / "runs" / kernel / "case"
        folder.mkdir(parents=True)
        Verdict(test=BUSY, outcome=outcome, machine={"kernel": kernel}).save(folder)
    for kernel, outcome in (("debian-6.12", "PASS"), ("debian-7.2", "FAIL")):
        done = terminal.harness("test", "--rows", "--json", "tests/guest/sriov/test_numvfs.py", "--kernel", kernel)
        assert (done.code, done.err) == (0, "")
        rows = {row["row"]: row for row in json.loads(done.out)["rows"]}
        assert BUSY in rows["SR-27"]["tests"]
        assert rows["SR-27"]["verdict"] == outcome
        assert (rows["SR-25"]["verdict"], rows["SR-120"]["tests"]) == (None, [])
    shown = terminal.harness("test", "--rows", "tests/guest/sriov/test_numvfs.py", "-k", "fewer").out
    assert "1 shown by tests that ran on debian-6.12" in shown.splitlines()[-1]


def test_rows_of_tests_that_cannot_be_collected_are_refused(terminal: Terminal) -> None:
    (terminal.cwd / "test_bad.py").write_text("def test_x(:\n")
    done = terminal.harness("test", "--rows", "test_bad.py")
    assert done.code == 2
    assert done.line.startswith("the tests cannot be collected: ")


def examined(monkeypatch: pytest.MonkeyPatch, *found: tuple[str | None, str]) -> None:
    """Stand in for kernels and runs: what became of as many mutants."""

    def examine(chosen: Sequence[Mutant], *_: Any, **__: Any) -> list[Examined]:
        return [Examined(one, by, trouble=why) for one, (by, why) in zip(chosen, found, strict=True)]

    monkeypatch.setattr(mutants, "examine", examine)
    monkeypatch.setattr(mutants, "confirmed", lambda found, *_, **__: found)
    monkeypatch.setattr(command.building, "provide", lambda *_, **__: None)


@pytest.mark.parametrize(
    ("second", "code", "last"),
    [
        (("tests/x.py::test_y", ""), 0, "2 mutants: 2 killed, 0 survived"),
        ((None, ""), 1, "2 mutants: 1 killed, 1 survived"),
        ((None, "does not apply"), 4, "2 mutants: 1 killed, 0 survived"),
    ],
)
def test_mutants_are_listed_with_what_killed_them(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, second: tuple[str | None, str], code: int, last: str
) -> None:
    names = ("range-off-by-one", "link-stays")
    examined(monkeypatch, ("tests/x.py::test_x", ""), second)
    done = terminal.harness("validate", "mutants", *names)
    assert done.code == code
    assert done.out.splitlines()[-1] == last
    assert "tests/x.py::test_x (1 of 2, after 0.0 min)" in done.err
    told = json.loads(terminal.harness("validate", "mutants", *names, "--json").out)["mutants"]
    assert [(one["name"], one["killed_by"]) for one in told] == [
        (names[0], "tests/x.py::test_x"),
        (names[1], second[0]),
    ]


def test_mutants_that_are_none_are_refused_before_anything_is_built(terminal: Terminal) -> None:
    assert terminal.refused("validate", "mutants", "range-of-by-one").startswith(
        "unknown mutant 'range-of-by-one'; did you mean 'range-off-by-one'?"
    )
    assert terminal.refused("validate", "mutants", "--suite", "no").startswith("unknown suite of mutants 'no'")


def test_mutants_can_be_listed(terminal: Terminal) -> None:
    listed = json.loads(terminal.harness("validate", "mutants", "--list", "--json").out)["mutants"]
    assert {one["suite"] for one in listed} == {"siov", "sriov"}
    lines = terminal.harness("validate", "mutants", "--list", "--suite", "siov").out.splitlines()
    assert len(lines) == 1 + sum(one["suite"] == "siov" for one in listed)
    assert terminal.left() == []
