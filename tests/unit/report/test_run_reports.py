# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of runs whose records are made here: what each format says, and that none of it obeys a guest."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import kcidb_io
import pytest

from harness.errors import UsageError
from harness.outcome import Exit, Outcome, Verdict
from harness.report import html, kcidb, text, validation, xml
from harness.report.run import Run
from harness.report.text import Reply
from harness.report.validation import Built, Changed, StepResult, Validation

PANIC = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"
HOSTILE = "</script><script>alert(1)</script> \x1b]0;owned\x07 <b>&amp;"
MACHINE = {
    "profile": "igb-sriov", "kernel": "7.3-siov", "release": "7.3.0-iov", "kernel_origin": "built from debian:7.3",
    "qemu": "11.1.3", "qemu_origin": "Debian", "accel": "tcg",
}  # fmt: skip


def recorded(run: Path, number: int, outcome: Outcome, reason: str = "", **more: Any) -> None:
    folder = run / f"test-{number}"
    folder.mkdir(parents=True)
    verdict = Verdict(
        test=f"tests/guest/sriov/test_x.py::test_{number}[igb-stub]", outcome=outcome, reason=reason, seconds=1.5,
        started=1_700_000_000.0 + number, machine=MACHINE, rows=("SR-27",), **more,
    )  # fmt: skip
    verdict.save(folder)
    (folder / "argv").write_text("qemu-system-x86_64 -machine q35\n")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give a run with a test of every outcome, one of which a panic ended."""
    folder = tmp_path / "20261122-1"
    for number, outcome in enumerate(Outcome):
        recorded(folder, number, outcome, f"{outcome}, and why: {HOSTILE}", detail=f"E  {HOSTILE}")
    recorded(folder, 6, Outcome.FAIL, PANIC, detail=f"the guest's kernel: {PANIC}")
    (folder / "test-6" / "console.log").write_bytes(b"[    1.0] ok\n\x1b[2J" + PANIC.encode() + b"\n")
    (folder / "base-q35").mkdir()  # the record of a base machine, which is no test's
    return Run.load(folder)


def test_a_run_is_read_in_the_order_in_which_its_tests_began(run: Run) -> None:
    assert [one.verdict.test.partition("test_x.py::")[2] for one in run.results] == [
        f"test_{number}[igb-stub]" for number in range(7)
    ]
    assert (run.kernel, run.seconds) == ("7.3-siov", 7.5)
    assert run.summary == "2 FAIL, 1 MISS, 1 ERROR, 1 PASS, 1 SKIP, 1 KNOWN"


def test_a_link_to_a_run_is_that_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(run.folder.name)
    assert Run.load(tmp_path / "latest").folder == run.folder


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder; give one of build/runs"):
        Run.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no test has left a record"):
        Run.load(tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "outcome.json").write_text("{}")
    with pytest.raises(UsageError, match=r"outcome\.json is no record of this version: ") as caught:
        Run.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_console_is_told_from_its_end_without_escapes(run: Run) -> None:
    assert run.results[6].console(1000) == f"[    1.0] ok\n{PANIC}\n"
    assert run.results[0].console(1000) == ""
    (run.results[0].folder / "console.log").write_bytes(b"x" * 1_000_000 + b"\nend\n")
    assert run.results[0].console(100).endswith("end\n")
    assert len(run.results[0].console(100)) < 200


def test_the_text_tells_what_went_wrong_first_and_how_to_see_it_again(run: Run) -> None:
    said = text.render([run])
    lines = said.splitlines()
    assert "\x1b" not in said
    assert lines[0] == f"7.3-siov: {run.summary} (7 tests, 8 s)"
    assert lines[1] == "  kernel  7.3.0-iov, built from debian:7.3"
    outcomes = [line.split()[0] for line in lines if re.match(r"[A-Z]+  tests/", line)]
    assert outcomes == ["FAIL", "FAIL", "MISS", "ERROR", "KNOWN"]
    assert PANIC in said
    assert "  again: harness test 'tests/guest/sriov/test_x.py::test_6[igb-stub]' --kernel 7.3-siov" in lines
    assert all(len(line) <= 78 or "::" in line for line in lines)


def test_many_failures_are_counted(tmp_path: Path) -> None:
    for number in range(25):
        recorded(tmp_path / "run", number, Outcome.FAIL, "no")
    assert "FAIL  and 5 more" in text.render([Run.load(tmp_path / "run")])


def test_an_answer_stays_in_its_thread(run: Run) -> None:
    said = text.render([run], Reply("20260604.abc@example.org", "[PATCH v2 07/12] PCI: x"))
    assert said.startswith(
        "Subject: Re: [PATCH v2 07/12] PCI: x\nIn-Reply-To: <20260604.abc@example.org>\n"
        "References: <20260604.abc@example.org>\n\n7.3-siov: "
    )
    assert Reply("<a@b>", "Re: x").headers().startswith("Subject: Re: x\nIn-Reply-To: <a@b>\n")


def test_junit_tells_the_outcomes_apart(run: Run) -> None:
    root = ET.fromstring(xml.render([run]))  # noqa: S314 - just made
    (suite,) = root
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "7.3-siov", "tests": "7", "failures": "2", "errors": "2", "skipped": "2",
    }  # fmt: skip
    told = {}
    for case in suite.iter("testcase"):
        properties = {one.get("name"): one.get("value") for one in case.iter("property")}
        assert (properties["kernel"], properties["profile"], properties["rows"]) == ("7.3-siov", "igb-sriov", "SR-27")
        told[properties["outcome"]] = [one.tag for one in case if one.tag != "properties"]
    assert told == {
        "PASS": [],
        "FAIL": ["failure"],
        "ERROR": ["error"],
        "MISS": ["error"],
        "SKIP": ["skipped"],
        "KNOWN": ["skipped"],
    }
    assert PANIC in xml.render([run])


def test_kcidb_takes_it(run: Run) -> None:
    made = kcidb.render([run])
    kcidb_io.schema.LATEST.validate(json.loads(json.dumps(made)))
    tests = {one["misc"]["test"]: one for one in made["tests"]}
    assert [one["status"] for one in tests.values()] == ["PASS", "FAIL", "ERROR", "MISS", "SKIP", "FAIL", "FAIL"]
    known = tests["tests/guest/sriov/test_x.py::test_5[igb-stub]"]
    assert known["misc"]["known"]
    assert known["comment"].startswith("known: KNOWN, and why")
    assert PANIC in tests["tests/guest/sriov/test_x.py::test_6[igb-stub]"]["log_excerpt"]
    assert len({one["id"] for one in made["tests"]}) == 7


class Page(HTMLParser):
    """What a browser would make of a page: its scripts, and what it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.fetched: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")
        self.fetched += [f"{tag} {name}" for name, value in attrs if name in ("src", "href") and value]

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def test_the_page_holds_all_and_obeys_no_guest(run: Run) -> None:
    page = Page(html.render([run]))
    assert page.fetched == []
    data_script, program = page.scripts
    data = json.loads(data_script)
    assert len(data["tests"]) == len(data["cells"]) == 7
    (cell,) = data["cells"][6]
    assert (cell["outcome"], cell["rows"], cell["profile"]) == ("FAIL", ["SR-27"], "igb-sriov")
    assert (PANIC in cell["reason"], PANIC in cell["console"]) == (True, True)
    assert cell["command"].startswith("qemu-system-x86_64")
    assert "innerHTML" not in program


def test_a_test_that_one_run_lacks_is_an_empty_cell(run: Run, tmp_path: Path) -> None:
    recorded(tmp_path / "other", 0, Outcome.FAIL, "other")
    data = json.loads(Page(html.render([run, Run.load(tmp_path / "other")])).scripts[0])
    assert [[one and one["outcome"] for one in row] for row in data["cells"]][:2] == [["PASS", "FAIL"], ["FAIL", None]]


@pytest.fixture
def validated(tmp_path: Path) -> Validation:
    """Patches: one is well, one does not build, one boots no more, of two nothing, or not enough, is known."""
    folder = tmp_path / "a-series-0123"
    recorded(folder / "steps" / "001-siov", 0, Outcome.PASS)
    recorded(folder / "steps" / "003-siov", 0, Outcome.FAIL, PANIC)
    lost = Changed(test="t", config="siov", kind="lost", reason="it did not run", rates="", before=["PASS"], after=[])
    Validation(
        series="v3.mbox", source="debian:7.3",
        steps=[
            StepResult(number=0, title="base", builds=[Built(config="siov")]),
            StepResult(number=1, title="1: A", builds=[Built(config="siov")], counts={"PASS": 1}),
            StepResult(number=2, title="2: B", builds=[Built(config="siov", error="iov.c:7: </script> is no C")]),
            StepResult(
                number=3, title="3: C", builds=[Built(config="base"), Built(config="siov")], boot=PANIC,
                boot_config="siov",
            ),
            StepResult(number=4, title="4: D", builds=[Built(config="siov")], untold=["test_x.py (siov): no room"]),
            StepResult(number=5, title="5: E", builds=[Built(config="siov")], changes=[lost]),
        ],
    ).save(folder)  # fmt: skip
    return Validation.load(folder)


def test_junit_tells_a_patch_that_has_no_tests(validated: Validation) -> None:
    root = ET.fromstring(xml.render(validation.runs(validated.folder), [validated]))  # noqa: S314 - just made
    patches, tested, _ = root.findall("testsuite")
    assert {name: patches.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "6", "failures": "2", "errors": "2",
    }  # fmt: skip
    said = {case.get("name"): [(one.tag, one.get("message")) for one in case] for case in patches}
    assert said["1: A"] == []
    assert said["2: B"] == [("failure", "does not build (siov)")]
    assert said["3: C"] == [("failure", "builds (2 configurations), does not boot")]
    assert said["4: D"] == [("error", "builds")]
    assert said["5: E"] == [("error", "builds, 1 lost test")]
    assert "is no C" in "".join(patches.itertext())
    assert tested.get("tests") == "1"


def test_kcidb_has_the_builds_and_boots_that_failed(validated: Validation) -> None:
    made = kcidb.render(validation.runs(validated.folder), [validated])
    kcidb_io.schema.LATEST.validate(json.loads(json.dumps(made)))
    builds = {one["id"].removeprefix("iov_harness:a-series-0123-"): one for one in made["builds"]}
    assert sorted(builds) == ["000-siov", "001-siov", "002-siov", "003-base", "003-siov", "004-siov", "005-siov"]
    assert [name for name, one in builds.items() if one["status"] == "FAIL"] == ["002-siov"]
    assert "is no C" in builds["002-siov"]["log_excerpt"]
    boot = next(one for one in made["tests"] if one["path"] == "boot")
    assert (boot["status"], boot["log_excerpt"]) == ("FAIL", PANIC)
    assert boot["build_id"] == builds["003-siov"]["id"]


def test_a_patch_that_does_not_apply_is_no_valid_checkout(validated: Validation) -> None:
    lost = [Built(config="siov", error="patch 6 of 6, e.patch, does not apply: iov.c, hunk 1", applies=False)]
    validated.steps.append(StepResult(number=6, title="6: F", builds=lost))
    made = kcidb.render(validation.runs(validated.folder), [validated])
    kcidb_io.schema.LATEST.validate(json.loads(json.dumps(made)))
    bad = [one for one in made["checkouts"] if not one["valid"]]
    assert [(one["id"], one["log_excerpt"]) for one in bad] == [("iov_harness:a-series-0123-006-siov", lost[0].error)]
    assert [one for one in made["builds"] if one["checkout_id"] == bad[0]["id"]] == []


def test_the_page_says_of_every_patch_what_became_of_it(validated: Validation) -> None:
    page = html.render([], [validated])
    assert "<title>iov-harness: v3.mbox</title>" in page
    assert '<span class="PASS">1: A</span> builds, boots, breaks nothing' in page
    assert '<span class="FAIL">2: B</span> does not build (siov)' in page
    assert "iov.c:7: &lt;/script&gt; is no C" in page
    assert '<span class="FAIL">3: C</span> builds (2 configurations), does not boot' in page
    assert '<span class="ERROR">4: D</span>' in page
    assert '<span class="ERROR">5: E</span>' in page


def test_what_is_red_in_a_report_is_so_in_the_exit_code(validated: Validation) -> None:
    for left, code in ((validated.steps, Exit.FAIL), (validated.steps[4:], Exit.ERROR), (validated.steps[:2], Exit.OK)):
        assert validated.model_copy(update={"steps": left}).code is code
    base = StepResult(number=0, title="base", builds=[Built(config="siov", error="no")])
    assert (base.outcome, Validation(series="s", source="t", steps=[base]).code) == (Outcome.ERROR, Exit.ERROR)


def test_a_kernel_that_never_stops_talking_does_not_fill_the_page() -> None:
    step = StepResult(number=1, title="1: A", builds=[Built(config="siov")], console=["x" * 1_000_000])
    assert len(step.told) < 25_000


def test_a_validation_that_is_not_over_says_so(validated: Validation) -> None:
    (validated.folder / validation.FILE).unlink()
    assert not validation.is_one(validated.folder)
    (validated.folder / validation.LEDGER).touch()
    assert validation.is_one(validated.folder)
    with pytest.raises(UsageError, match="has not come to its end; the same `harness validate` goes on with it"):
        Validation.load(validated.folder)


@pytest.mark.parametrize("letter", ["c", "<"])
def test_a_page_of_500_failures_is_below_5_megabytes(tmp_path: Path, letter: str) -> None:
    for number in range(500):
        recorded(tmp_path / "run", number, Outcome.FAIL, letter * 200, detail=letter * 20_000)
        (tmp_path / "run" / f"test-{number}" / "console.log").write_bytes(letter.encode() * 100_000)
    assert len(html.render([Run.load(tmp_path / "run")]).encode()) < 5_000_000
