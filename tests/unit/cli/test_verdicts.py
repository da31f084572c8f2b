# SPDX-License-Identifier: GPL-2.0-or-later
"""What `harness test` makes of tests that end in every way that needs no machine: records, JUnit and exit code."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from commandline import Done, Terminal

from harness.cli.test import _code
from harness.outcome import Outcome

ENDINGS = {
    "passes": ("def test_it(): pass", "PASS"),
    "fails": ("def test_it(): assert 1 == 2", "FAIL"),
    "fails_in_words": ("def test_it(): pytest.fail('no')", "FAIL"),
    "skips": ("def test_it(): pytest.skip('no')", "SKIP"),
    "trips": ("def test_it(): {}['x']", "ERROR"),
    "expects_to_fail": ("@pytest.mark.xfail\ndef test_it(): assert 1 == 2", "FAIL"),
    "gives_up": ("def test_it(): pytest.xfail('no')", "FAIL"),
    "must_fail_and_passes": ("@pytest.mark.xfail(strict=True)\ndef test_it(): pass", "FAIL"),
    "misuses_a_fixture": (
        "@pytest.fixture(scope='module')\ndef wide(tmp_path): pass\ndef test_it(wide): pass", "ERROR"
    ),
    "asserts_in_setup": ("@pytest.fixture\ndef broken(): assert 1 == 2\ndef test_it(broken): pass", "FAIL"),
    "trips_in_teardown": ("@pytest.fixture\ndef broken():\n yield\n {}['x']\ndef test_it(broken): pass", "ERROR"),
    "cannot_be_imported": ("import no_such_module", "ERROR"),
}  # fmt: skip
TAGS = {"FAIL": "failure", "ERROR": "error", "SKIP": "skipped"}


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    """Go to an empty folder, with stand-ins for what would be fetched."""
    return Terminal(tmp_path, monkeypatch, capfd)


def run(terminal: Terminal, *arguments: str, **files: str) -> Done:
    for name, text in files.items():
        (terminal.cwd / f"test_{name}.py").write_text(f"import os, signal, time\nimport pytest\n{text}\n")
    return terminal.harness("test", *terminal.stand_ins(), ".", *arguments)


def outcomes(done: Done) -> Mapping[str, str]:
    """Give the outcome of each file's one test."""
    tests = json.loads(done.out)["tests"]
    return {one["test"].partition(".py")[0].removeprefix("test_"): one["outcome"] for one in tests}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_every_ending_has_its_outcome_in_records_and_junit(terminal: Terminal, workers: tuple[str, ...]) -> None:
    files = {name: text for name, (text, _) in ENDINGS.items()}
    more = ("--continue-on-collection-errors", "--json", "--junit", "junit.xml", *workers)
    done = run(terminal, *more, **files)
    assert outcomes(done) == {name: outcome for name, (_, outcome) in ENDINGS.items()}
    assert done.code == 1
    for case in ET.parse("junit.xml").iter("testcase"):  # noqa: S314 - our own file
        property_ = case.find("properties/property[@name='outcome']")
        if property_ is not None:
            results = [child.tag for child in case if child.tag in set(TAGS.values())]
            tag = TAGS.get(property_.get("value", ""))
            assert results == ([tag] if tag else []), case.get("classname")


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("passes", (), 0),
        ("fails", (), 1),
        ("fails", ("-x", "-n", "2"), 1),
        ("trips", (), 4),
        ("skips", (), 0),
        ("cannot_be_imported", (), 4),
        ("cannot_be_imported", ("--bisect",), 125),
        ("cannot_be_imported", ("-n", "2"), 4),
        ("must_fail_and_passes", (), 1),
        ("passes", ("-k", "nothing"), 5),
        ("passes", ("--collect-only",), 0),
    ],
)
def test_the_exit_code_follows_from_the_outcomes(
    terminal: Terminal, name: str, arguments: tuple[str, ...], code: int
) -> None:
    assert run(terminal, *arguments, **{name: ENDINGS[name][0]}).code == code


def test_a_test_that_takes_its_worker_with_it_is_an_error(terminal: Terminal) -> None:
    done = run(terminal, "-n", "2", "--json", dies="def test_it(): os._exit(0)", passes="def test_it(): pass")
    assert outcomes(done) == {"dies": "ERROR", "passes": "PASS"}
    assert done.code == 4


def test_the_deadline_holds_for_tests_without_a_machine_too(terminal: Terminal) -> None:
    done = run(terminal, "--deadline", "4", "--json", a="def test_it(): time.sleep(60)", b="def test_it(): pass")
    assert outcomes(done) == {"a": "MISS", "b": "MISS"}
    assert done.code == 3


@pytest.mark.parametrize(
    "mark",
    ["known_bug", "known_bug()", "known_bug('x', kernels='debian')", "known_bug('x', match='(')", "test_timeout('x')",
     "expects_report('wran')", "expects_report('warn', match='(')", "machine", "machine(3)"],
)  # fmt: skip
def test_a_mark_that_makes_no_sense_is_refused_before_anything_runs(terminal: Terminal, mark: str) -> None:
    done = run(terminal, a=f"@pytest.mark.{mark}\ndef test_it(): pass")
    assert done.code == 2, done.out
    assert f"mark {mark.partition('(')[0]}: " in done.err + done.out


@pytest.mark.parametrize(
    ("status", "found", "interrupted", "code"),
    [
        (0, [Outcome.PASS], False, 0),
        (0, [], False, 0),
        (1, [Outcome.PASS], False, 4),
        (2, [Outcome.PASS], False, 4),
        (3, [], False, 4),
        (5, [], False, 5),
        (2, [Outcome.PASS], True, 130),
        (2, [], True, 130),
        (2, [Outcome.FAIL], True, 1),
        (2, [Outcome.MISS, Outcome.ERROR], False, 3),
        (4, [], False, 2),
        (-signal.SIGKILL, [Outcome.PASS], False, 4),
        (0, [Outcome.KNOWN, Outcome.SKIP], False, 0),
    ],
)
def test_a_status_of_pytest_never_hides_an_outcome_nor_an_outcome_a_status(
    status: int, found: list[Outcome], interrupted: bool, code: int
) -> None:
    assert _code(status, found, interrupted=interrupted) == code


def test_other_projects_tests_are_left_alone(terminal: Terminal) -> None:
    text = "import pytest\n@pytest.fixture\ndef machine(): pass\ndef test_it(machine): pass\n"
    (terminal.cwd / "test_a.py").write_text(text)
    subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_a.py"], check=True)
    assert not (terminal.cwd / "build").exists()


def test_nothing_that_a_terminal_would_obey_is_left_of_what_a_guest_said(terminal: Terminal) -> None:
    done = run(
        terminal, a=r"def test_it():" + "\n    print('\\x1b[2Jheard')\n    assert 'a\\nb\\x1b]0;seen\\x07' == 'c\\nd'"
    )
    assert done.code == 1
    assert "heard" in done.out
    assert "\x1b" not in done.out
    assert "\x07" not in done.out


DEPENDS = """
def test_it(request): assert request.config.getoption('--kernel').endswith('{kernel}')
def test_same(): pass
def test_skip(request):
    if request.config.getoption('--kernel').endswith('{kernel}'): pytest.skip('no')
"""


def test_two_kernels_are_compared_test_by_test(terminal: Terminal) -> None:
    words = terminal.stand_ins()
    kernel = Path(words[words.index("--kernel") + 1])
    other = kernel.with_name("another")
    shutil.copy(kernel, other)
    done = run(terminal, "--against", str(other), same="def test_it(): pass")
    assert (done.code, done.out.splitlines()[-1]) == (
        0,
        f"1 tests say the same on {kernel} and {other}, 0 something else",
    )
    done = run(terminal, "--against", str(other), "--json", differs=DEPENDS.format(kernel=kernel.name))
    told = json.loads(done.out)
    assert (done.code, told["exit"], told["against"]["kernel"]) == (1, 1, str(other))
    found = {one["test"].partition("::")[2]: (one["here"], one["there"], one["counts"]) for one in told["differences"]}
    assert found == {"test_it": ("PASS", "FAIL", True), "test_skip": ("SKIP", "PASS", False)}
    shown = run(terminal, "--against", str(other)).out
    assert "2 tests say the same" in shown
    assert shown.splitlines()[-1].endswith(
        "1 something else, 1 more are told on one of them only, or FAIL for another reason"
    )


def test_a_run_that_did_not_come_to_its_end_is_not_compared(terminal: Terminal) -> None:
    done = run(terminal, "--against", "debian-6", "-k", "nothing", same="def test_it(): pass")
    assert (done.code, done.err.splitlines()[-1].partition(":")[0]) == (2, "harness")
    kernel = terminal.stand_ins()[-1]
    assert run(terminal, "--against", str(kernel), "-k", "nothing").code == 5


def test_kernel_options_in_a_mark_go_by_their_names(terminal: Terminal) -> None:
    done = run(terminal, asks="@pytest.mark.needs_kernel('CONFIG_PCI_SIOV')\ndef test_it(): pass")
    assert done.code == 2
    assert "kernel options go by names such as PCI_SIOV, without CONFIG_" in done.err
