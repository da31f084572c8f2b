# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTML page in a real browser: what it shows, what clicks and words in its search field do, how soon it is up."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.outcome import Outcome, Verdict
from harness.report import html
from harness.report.run import Run

TITLE = "1: PCI/IOV: Break it"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on this machine: apt-get install chromium")

_DRIVER = """<script>
window.onerror = (what) => { document.title = "error: " + what; };
const shown = () => [...document.querySelectorAll("#matrix tbody tr:not(.more)")].filter(row => !row.hidden)
  .map(row => row.querySelector(".test").textContent);
const search = words => { const field = document.getElementById("search"); field.value = words;
  field.dispatchEvent(new Event("input", {bubbles: true})); };
const result = {ready: performance.now()};
%s
const pre = document.createElement("pre"); pre.id = "result"; pre.textContent = JSON.stringify(result);
document.body.append(pre);
</script></body>"""


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two runs of 250 tests each; the second one's kernel panics in one of them."""
    for title in ("base", TITLE):
        for number in range(250):
            folder = tmp_path / title[:4] / f"test-{number}"
            folder.mkdir(parents=True)
            outcome = Outcome.FAIL if (title, number) == (TITLE, 7) else Outcome.PASS
            Verdict(
                test=f"tests/guest/sriov/test_x.py::test_{number}[igb]", outcome=outcome, seconds=0.5,
                reason="Kernel panic - not syncing" if outcome is Outcome.FAIL else "", started=float(number),
                machine={"kernel": title[:4], "profile": "igb-sriov"}, rows=(f"SR-{number}",),
            ).save(folder)  # fmt: skip
            (folder / "console.log").write_text("[    1.0] Kernel panic - not syncing: <b>x</b>\n")
            (folder / "argv").write_text("qemu-system-x86_64 -machine q35\n")
        (tmp_path / title[:4] / "title").write_text(f"{title}\n")
    return [Run.load(tmp_path / name) for name in ("base", "1: P")]


def asked(runs: list[Run], folder: Path, script: str) -> dict[str, Any]:
    """Open the page, run a script in it, and give what it put into `result`."""
    page = folder / "page.html"
    page.write_text(html.render(runs).replace("</body>", _DRIVER % script), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command += ["--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[:500]
    told: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return told


def test_five_hundred_cells_are_there_in_no_time(runs: list[Run], tmp_path: Path) -> None:
    script = """
    result.cells = document.querySelectorAll("#matrix tbody button").length;
    result.heads = [...document.querySelectorAll("#matrix thead th")].map(one => one.firstChild.textContent);
    """
    told = [asked(runs, tmp_path, script) for _ in range(3)]  # the machine may be busy, but not always
    assert told[0]["cells"] == 500
    assert told[0]["heads"] == ["test", "base", TITLE]
    assert min(one["ready"] for one in told) < 1000  # milliseconds
    assert (tmp_path / "page.html").stat().st_size < 5_000_000


def test_a_click_opens_what_there_is_to_know_and_another_closes_it(runs: list[Run], tmp_path: Path) -> None:
    script = """
    const button = document.querySelector("#matrix button.FAIL");
    result.colour = getComputedStyle(button).backgroundColor;
    button.click(); result.opened = document.querySelector("tr.more").textContent;
    result.bold = document.querySelectorAll("tr.more b").length;
    button.click(); result.left = document.querySelectorAll("tr.more").length;
    """
    told = asked(runs, tmp_path, script)
    assert told["colour"] == "rgb(243, 180, 176)"
    for part in ("Kernel panic - not syncing", "harness test", "qemu-system-x86_64", "igb-sriov", "SR-7", "<b>x</b>"):
        assert part in told["opened"]
    assert (told["bold"], told["left"]) == (0, 0)


def test_words_boxes_and_differences_leave_what_was_asked_for(runs: list[Run], tmp_path: Path) -> None:
    script = """
    search("sr-17 igb"); result.words = shown();
    search(""); document.getElementById("differs").click(); result.differs = shown();
    document.getElementById("differs").click();
    document.querySelector("#filter input[value=PASS]").click(); result.fails = shown();
    result.told = document.getElementById("shown").textContent;
    """
    told = asked(runs, tmp_path, script)
    assert "tests/guest/sriov/test_x.py::test_17[igb]" in told["words"]
    assert all("17" in test for test in told["words"])
    assert told["differs"] == told["fails"] == ["tests/guest/sriov/test_x.py::test_7[igb]"]
    assert told["told"] == "1 of 250 tests"
