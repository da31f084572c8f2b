# SPDX-License-Identifier: GPL-2.0-or-later
"""Every outcome, provoked on real machines, as `harness test` tells it: record, exit code and JUnit file."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

PROVOKED = Path(__file__).with_name("provoked.py")
HarnessTest = Callable[..., subprocess.CompletedProcess[str]]

EXPECTED = {
    "passes": ("PASS", ""),
    "fails_by_assertion": ("FAIL", "Hurd"),
    "fails_by_an_unexpected_errno": ("FAIL", "EACCES"),
    "fails_by_another_errno_than_stated": ("FAIL", "expected EBUSY, but: .*ENOENT"),
    "fails_by_a_kernel_report": ("FAIL", "the kernel reported warn: WARNING: CPU: 0 PID: 1 at drivers/pci/iov.c:1"),
    "fails_by_a_kernel_report_though_it_skips": ("FAIL", "the kernel reported warn"),
    "fails_by_a_kernel_report_in_setup": ("FAIL", "the kernel reported warn"),
    "fails_by_a_kernel_report_in_teardown": ("FAIL", "the kernel reported warn"),
    "fails_by_a_kernel_report_of_a_second_machine": ("FAIL", "the kernel reported warn"),
    "passes_with_a_declared_report": ("PASS", ""),
    "fails_without_its_declared_report": ("FAIL", "the kernel did not report warn"),
    "fails_by_a_panic": ("FAIL", "Kernel panic - not syncing: sysrq triggered crash"),
    "fails_by_a_dead_qemu": ("FAIL", "QEMU ended, killed by SIGKILL"),
    "fails_once_by_a_dead_qemu_that_its_teardown_finds_gone": ("FAIL", "QEMU ended, killed by SIGKILL"),
    "fails_by_a_qemu_that_dies_unnoticed": ("FAIL", "QEMU ended, killed by SIGKILL"),
    "fails_by_a_hang_in_the_guest": ("FAIL", "`sleep 1000`: nothing within 0.5 s"),
    "fails_by_a_hang_in_the_guest_that_the_test_does_not_bound": ("FAIL", "still waited for the guest after 45 s"),
    "errs_by_a_hang_of_its_own": ("ERROR", "still ran after 45 s"),
    "errs_by_a_mistake": ("ERROR", "no_such_method"),
    "errs_by_a_wrong_mark": ("ERROR", "unknown parameter 'no_such_parameter'"),
    "misses_a_kernel_that_finds_no_init": ("MISS", "lost at stage kernel: Kernel panic - not syncing: VFS"),
    "misses_a_module_that_does_not_compile": (
        "MISS",
        "does not compile: bad.c:2:11: error: 'no_such_thing' undeclared",
    ),
    "errs_by_a_module_that_nobody_knows": ("ERROR", "unknown kernel module 'iov-asign'; did you mean 'iov-assign'"),
    "fails_by_a_module_that_the_kernel_refuses": ("FAIL", "loading .*iov-assign.ko function=.*: ENODEV"),
    "skips": ("SKIP", "does not apply"),
    "skips_where_the_kernel_has_no_debug_information": (
        "SKIP",
        "debian-6.12 has no debug information .*; those of",
    ),
    "skips_where_the_kernel_lacks_what_the_test_is_about": ("SKIP", "kernel debian-6.12 lacks CONFIG_PCI_SIOV"),
    "skips_a_module_for_a_kernel_without_headers": ("SKIP", "kernel debian-6.12 came without headers"),
    "known_to_fail": ("KNOWN", "the sky is green"),
    "fails_by_passing_unexpectedly": ("FAIL", "unexpected pass of a known bug"),
    "errs_although_known_to_fail": ("ERROR", "no_such_method"),
    "fails_by_a_panic_that_no_known_bug_foretold": ("FAIL", "Kernel panic - not syncing: sysrq triggered crash"),
    "known_to_panic": ("KNOWN", "the sky falls"),
    "fails_by_a_kernel_report_besides_a_known_bug": ("FAIL", "as foretold"),
    "known_to_fail_and_to_warn": ("KNOWN", "the sky is green, and warns"),
    "fails_where_the_bug_is_not_known": ("FAIL", "a surprise"),
}
PANICS = r"test_fails_by_a_panic\["
PANIC = "Kernel panic - not syncing: sysrq triggered crash"
TAGS = {"FAIL": "failure", "ERROR": "error", "MISS": "error", "SKIP": "skipped", "KNOWN": "skipped"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, harness_test: HarnessTest) -> Mapping[str, Any]:
    """All provoked cases in one run with two workers: what it printed, and its JUnit file."""
    cwd = tmp_path_factory.mktemp("provoked")
    done = harness_test(str(PROVOKED), "-n", "2", "--json", "--junit", "junit.xml", cwd=cwd)
    cases = ET.parse(cwd / "junit.xml").iter("testcase")  # noqa: S314 - our own file
    return {
        "cwd": cwd,
        "exit": done.returncode,
        "said": done.stderr,
        **json.loads(done.stdout),
        "junit": {c.get("name"): c for c in cases},
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_a_provoked_case_has_its_outcome_in_record_and_junit(run: Mapping[str, Any], name: str) -> None:
    outcome, reason = EXPECTED[name]
    (verdict,) = [one for one in run["tests"] if f"::test_{name}[" in one["test"]]
    assert verdict["outcome"] == outcome, verdict
    assert re.search(reason, verdict["reason"]), verdict["reason"]
    (case,) = [case for title, case in run["junit"].items() if title.startswith(f"test_{name}[")]
    results = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
    assert results == ([TAGS[outcome]] if outcome in TAGS else [])
    assert case.find("properties/property[@name='outcome']").get("value") == outcome


def test_every_provoked_case_is_expected(run: Mapping[str, Any]) -> None:
    names = {one["test"].partition("::test_")[2].partition("[")[0] for one in run["tests"]}
    assert names == set(EXPECTED)
    assert run["exit"] == 1
    assert sum(run["outcomes"].values()) == len(EXPECTED)


def test_a_panic_leaves_its_whole_text_in_the_record(run: Mapping[str, Any]) -> None:
    (verdict,) = [one for one in run["tests"] if "fails_by_a_panic[" in one["test"]]
    assert "sysrq_handle_crash" in verdict["detail"]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("text", rf"FAIL  \S*{PANICS}\S*\n  [^\n]*{PANIC}"),
        ("junit", rf'name="{PANICS}(?:(?!</testcase>).)*<failure message="[^"]*{PANIC}'),
        ("kcidb", rf'"comment": "[^"]*{PANIC}",\s*"status": "FAIL"(?:(?!"id":).)*"test": "[^"]*{PANICS}'),
        ("html", rf'"outcome":"FAIL","seconds":[0-9.]+,"reason":"[^"]*{PANIC}"(?:(?!"outcome").)*{PANICS}'),
    ],
    ids=["text", "junit", "kcidb", "html"],
)
def test_a_panic_is_a_failure_with_its_text_in_every_report(
    run: Mapping[str, Any], harness_command: tuple[str, ...], form: str, told: str
) -> None:
    command = [*harness_command, "report", run["run"], "--format", form]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(told, report, re.DOTALL)
    assert found is not None, f"the report is {len(report)} characters long"


def test_failed_tests_are_told_with_what_runs_them_again(run: Mapping[str, Any]) -> None:
    told = re.findall(r"^again: harness repro (\S+)$", run["said"], re.MULTILINE)
    assert len(told) == 5
    assert re.search(r"^\d+ more, too: harness repro \S+/TEST$", run["said"], re.MULTILINE)
    for folder in told:
        assert json.loads((run["cwd"] / folder / "outcome.json").read_text())["outcome"] in {"FAIL", "ERROR", "MISS"}


def test_a_case_is_told_once(run: Mapping[str, Any]) -> None:
    told = re.findall(r"^(?:FAIL|ERROR|MISS) (\S+)", run["said"], re.MULTILINE)
    assert len(told) > 20
    assert [one for one in told if told.count(one) > 1] == []


def test_every_case_has_its_run_record(run: Mapping[str, Any]) -> None:
    left = {"argv", "argv-cold", "qmp.jsonl", "console.log", "ssh.log", "outcome.json"}
    (folder,) = Path(run["run"]).glob("*test_passes-*")
    assert {path.name for path in folder.iterdir()} == left
    (folder,) = Path(run["run"]).glob("*test_fails_by_assertion-*")
    assert {path.name for path in folder.iterdir()} == left | {"source", "dmesg.txt", "lspci.txt"}
    assert "Linux version" in (folder / "dmesg.txt").read_text(encoding="utf-8")
    assert "00:00.0" in (folder / "lspci.txt").read_text(encoding="utf-8")
    (source,) = (folder / "source").rglob(PROVOKED.name)
    assert source.read_bytes() == PROVOKED.read_bytes()


def test_a_guest_that_has_panicked_leaves_what_qemu_knows_of_it(run: Mapping[str, Any]) -> None:
    (folder,) = Path(run["run"]).glob("*test_fails_by_a_panic-*")
    assert "RIP=" in (folder / "cpus.txt").read_text(encoding="utf-8")
    assert "Host bridge" in (folder / "lspci.txt").read_text(encoding="utf-8")
    assert "not to be had" in (folder / "dmesg.txt").read_text(encoding="utf-8")  # no debug information, no log


def test_a_machine_that_is_gone_leaves_no_more_than_it_did(run: Mapping[str, Any]) -> None:
    (folder,) = Path(run["run"]).glob("*test_fails_by_a_dead_qemu-*")
    assert not list(folder.glob("*.txt"))


@pytest.mark.parametrize(
    ("select", "more", "code"),
    [
        ("test_errs_by_a_wrong_mark", (), 4),
        ("test_errs_by_a_wrong_mark", ("--bisect",), 125),
        ("no_such_test", (), 5),
        ("test_passes", ("--deadline", "0.001"), 3),
        ("test_passes", ("--kernel", "no-such-kernel"), 2),
        ("test_passes", ("--kernel", "no-such-kernel", "--bisect"), 128),
        ("test_passes", ("--no-such-option",), 2),
    ],
)
def test_the_exit_code_says_what_kind_of_trouble(
    tmp_path: Path, harness_test: HarnessTest, select: str, more: tuple[str, ...], code: int
) -> None:
    done = harness_test(str(PROVOKED), "-k", f"{select}", *more, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
