# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts of what the sanitizers write."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.machine.sanitizers import Sanitizers

LEAKS = "==7==ERROR: LeakSanitizer: detected memory leaks\n\n"
LEAK = "leak of 8 byte(s) in 1 object(s) allocated from:\n    #0 0x1 in malloc\n    #1 0x2 in"
OTHERS = f"Direct {LEAK} main ../system/main.c:1\n\n"
OURS = f"Indirect {LEAK} put ../hw/misc/iov-overlay.c:2\n\n"
SUMMARY = "SUMMARY: AddressSanitizer: 72 byte(s) leaked in 2 allocation(s).\n"
USE = (
    "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x1\nREAD of size 1\n    #0 0x1 in get\n\nfreed by\n"
)
SHIFT = "../hw/pci/pci.c:3:4: runtime error: shift exponent 64 is too large\n    #0 0x1 in pci_write\n"


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        ((), ""),
        ((LEAKS + OTHERS + SUMMARY,), ""),
        ((LEAKS + OTHERS + OURS + SUMMARY,), OURS.strip()),
        ((USE + LEAKS + OURS,), USE.partition("\n\n")[0]),
        ((LEAKS + OTHERS + SUMMARY, SHIFT), SHIFT.strip()),
    ],
)
def test_errors_count_and_leaks_of_our_file(tmp_path: Path, reports: tuple[str, ...], told: str) -> None:
    for number, report in enumerate(reports):
        (tmp_path / f"sanitizer.{number}").write_text(report)
    assert Sanitizers(tmp_path).complaint().strip() == told


def test_the_reports_are_asked_for_where_they_are_looked_for(tmp_path: Path) -> None:
    assert all(f"log_path={tmp_path}/sanitizer" in word for word in Sanitizers(tmp_path).environment)
