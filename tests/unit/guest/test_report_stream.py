# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports in the stream of a console: one after, inside and behind another, between other lines, and without end."""

from __future__ import annotations

import tracemalloc

import pytest
from consoles import (
    AFTER,
    BEFORE,
    CUT,
    HUNG,
    KASAN,
    KILLED,
    MARK,
    OOPS,
    PANIC,
    SYSFS,
    WARN_6,
    WARN_7,
    kinds,
    scanned,
    scanner_fed,
    stamped,
)

from harness.guest.reports import LINE_CHARACTERS, REPORT_LINES, REPORTS_KEPT, ReportKind
from harness.text import decoded

K = ReportKind


def test_an_oops_that_panics_the_kernel_is_an_oops_and_a_panic() -> None:
    reports = scanned(stamped(f"{OOPS}\n{PANIC}"))

    assert [report.kind for report in reports] == [K.OOPS, K.PANIC]
    assert reports[0].lines[-1].endswith("exited with irqs disabled")
    assert reports[1].title == "Kernel panic - not syncing: Fatal exception"


def test_removing_a_pf_with_its_vfs_on_gives_one_report_for_each_thing_that_breaks() -> None:
    kobject = "kobject: kobject_add_internal failed for 0000:01:10.0 with -EEXIST, don't try to register things"
    reports = scanned(stamped(f"{BEFORE}\n{SYSFS}\n{kobject}\n{WARN_6}\n{OOPS}\n{AFTER}"))

    assert [report.kind for report in reports] == [K.DUPLICATE, K.WARN, K.OOPS]
    assert reports[0].lines[-1].endswith(" </TASK>")
    assert [report.lines[0].split("] ", 1)[1] for report in reports[1:]] == [CUT, OOPS.splitlines()[0]]


def test_a_warning_inside_an_oops_ends_it_and_takes_its_own_cut_here_along() -> None:
    head = "\n".join(OOPS.splitlines()[:8])
    lines = stamped(f"{head}\n{WARN_6}\n{AFTER}")

    oops, warn = scanned(lines)

    assert (oops.kind, warn.kind) == (K.OOPS, K.WARN)
    assert list(oops.lines) == lines[:8]
    assert list(warn.lines) == lines[8:-1]
    assert warn.line_number == 9


def test_a_panic_behind_a_sanitizers_report_leaves_it_its_closing_ruler() -> None:
    kasan, panic = scanned(stamped(f"{KASAN}\nKernel panic - not syncing: KASAN: panic_on_warn set ..."))

    assert kasan.lines[-1].endswith("====")
    assert len(panic.lines) == 1


def test_a_second_oops_of_another_task_is_a_second_report() -> None:
    assert kinds(stamped(f"{OOPS}\n{OOPS.replace('#1', '#2')}")) == [K.OOPS, K.OOPS]


def test_a_headline_that_could_continue_a_report_begins_one_once_that_is_complete() -> None:
    general = "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#2] SMP"
    assert kinds(stamped(f"{OOPS}\n{general}\n{MARK}")) == [K.OOPS, K.OOPS]


def test_hung_tasks_are_a_report_each() -> None:
    reports = scanned(stamped(f"{HUNG}\n{HUNG.replace(':145', ':146')}\n{AFTER}"))

    assert [report.title[:19] for report in reports] == ["INFO: task sh:145 b", "INFO: task sh:146 b"]


def test_a_new_boot_ends_the_panic_that_led_to_it() -> None:
    panic = "\n".join(PANIC.splitlines()[:4])  # with panic=-1 the machine restarts before the end is printed
    reports = scanned(stamped(f"{panic}\nLinux version 7.3.4 (kernel@debian.org) #1 SMP PREEMPT_DYNAMIC\n{SYSFS}"))

    assert [(report.kind, len(report.lines)) for report in reports] == [
        (K.PANIC, 4),
        (K.DUPLICATE, len(SYSFS.splitlines())),
    ]


def test_a_report_shows_as_it_stands_while_it_is_printed_and_finishing_twice_changes_nothing() -> None:
    lines = stamped(OOPS)
    scanner = scanner_fed(lines[:3])
    assert [report.lines for report in scanner.reports] == [tuple(lines[:3])]

    scanner.feed(lines[3])
    assert [len(report.lines) for report in scanner.reports] == [4]

    scanner.finish()
    scanner.finish()
    assert [len(report.lines) for report in scanner.reports] == [4]


def test_lists_given_out_do_not_change_later() -> None:
    scanner = scanner_fed(stamped(f"{WARN_6}\n{AFTER}"))
    before = scanner.reports

    for line in stamped(f"{SYSFS}\n{AFTER}"):
        scanner.feed(line)

    assert len(before) == 1
    assert len(scanner.reports) == 2


def test_user_space_that_mentions_a_report_does_not_make_one() -> None:
    assert kinds([*stamped(BEFORE), "Kernel panic - not syncing: says the test", *WARN_6.splitlines()]) == []
    assert kinds(stamped("test: looking for WARNING: CPU: 0 PID: 1 at a.c:1 b+0x1/0x2\nsh: BUG: no")) == []
    assert kinds(["test: looking for [    8.900000] BUG: unable to handle page fault for address: 0"]) == []


def test_user_space_lines_between_those_of_a_report_are_left_out_but_numbered() -> None:
    kernel = stamped(WARN_6)
    lines = ["booted", kernel[0], "[  OK  ] Started sshd", kernel[1], "WARNING: a shell says", *kernel[2:]]

    (report,) = scanned([*stamped(BEFORE), *lines])

    assert list(report.lines) == kernel
    assert report.line_number == 3


@pytest.mark.parametrize("prompt", ["debian login: ", "root@debian:~# ", "[root@fedora ~]# ", "$ ", "Password: "])
def test_a_kernel_line_behind_an_unfinished_prompt_counts(prompt: str) -> None:
    first, *rest = stamped(HUNG)

    (report,) = scanned([f"{prompt}{first}", *rest])

    assert report.title == "INFO: task sh:145 blocked for more than 120 seconds."


@pytest.mark.parametrize("start", [9.0, 8.999_999])
@pytest.mark.parametrize("caller", ["", "[    T1]"])
def test_a_kernel_line_that_cuts_into_one_of_a_program_counts(start: float, caller: str) -> None:
    first, *rest = stamped(WARN_7.split("\n", 2)[2], start, caller)

    (report,) = scanned([*stamped(BEFORE, 9.0), f"iov-harn{first}", *rest, "ess: half a line"])

    assert report.title.startswith("WARNING: lib/refcount.c:28 at ")
    assert report.lines == (f"iov-harn{first}", *rest)


def test_a_program_that_quotes_an_earlier_kernel_line_does_not_make_a_report() -> None:
    assert kinds([*stamped(BEFORE, 9.0), f"seen: {stamped(KILLED)[0]}"]) == []
    assert kinds([*stamped(BEFORE, 9.0), f"seen: {stamped(KILLED)[0]} at{stamped(KILLED, 9.1)[0]}"]) == [K.OOM]


def test_times_begin_anew_with_a_new_boot() -> None:
    boot = stamped("Linux version 7.3.4 (kernel@debian.org) #1 SMP PREEMPT_DYNAMIC", 0.0)
    assert kinds([*stamped(BEFORE, 99.0), *boot, f"half{stamped(KILLED)[0]}"]) == [K.OOM]


def test_a_kernel_line_behind_a_carriage_return_counts() -> None:
    assert kinds([decoded(f"progress 10%\r{stamped(KILLED)[0]}\r".encode())]) == [K.OOM]


def test_terminal_escapes_around_a_kernel_line_do_not_hide_it() -> None:
    raw = [f"\x1b[0;1;31m{line}\x1b[0m\r".encode() for line in stamped(WARN_7)]

    (report,) = scanned(decoded(line).rstrip("\n") for line in raw)

    assert report.lines == tuple(stamped(WARN_7))


def test_a_cut_here_that_leads_nowhere_is_forgotten() -> None:
    lines = stamped("\n".join([CUT, *[BEFORE] * 20, "BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1"]))

    (report,) = scanned(lines)

    assert report.lines == (lines[-1],)
    assert report.line_number == len(lines)


def test_a_report_that_never_ends_is_cut_and_what_follows_is_still_found() -> None:
    lines = stamped("\n".join([*WARN_6.splitlines()[:3], *[BEFORE] * 1000, SYSFS]))

    warn, duplicate = scanned(lines)

    assert list(warn.lines) == lines[:REPORT_LINES]
    assert duplicate.kind is K.DUPLICATE


def test_a_scan_that_finds_leaks_without_end_stays_bounded() -> None:
    lines = stamped("\n".join(["kmemleak: unreferenced object 0xff1100000a2b4000 (size 64):"] * 1000))

    assert [len(report.lines) for report in scanned(lines)] == [REPORT_LINES] * 8 + [1000 - 8 * REPORT_LINES]


def test_a_line_without_end_is_cut() -> None:
    (report,) = scanned([stamped(KILLED)[0] + "x" * 10_000_000])

    assert len(report.text) == LINE_CHARACTERS


def test_the_first_report_of_a_kind_is_kept_however_late_it_comes_and_the_others_are_counted() -> None:
    warns = stamped("\n".join([WARN_6] * (REPORTS_KEPT + 10)))
    scanner = scanner_fed([*warns, *stamped(KASAN), *stamped(KASAN), *stamped(KASAN)])
    open_and_dropped = scanner.reports, scanner.dropped
    scanner.finish()

    assert [report.kind for report in scanner.reports] == [K.WARN] * REPORTS_KEPT + [K.KASAN]
    assert (scanner.reports, scanner.dropped) == open_and_dropped
    assert scanner.dropped == {K.WARN: 10, K.KASAN: 2}


def test_a_console_without_end_takes_bounded_memory() -> None:
    lines = stamped(f"{WARN_6}\n{CUT}\n{BEFORE}\n{AFTER * 50}")
    scanner = scanner_fed(lines * (REPORTS_KEPT + 1))
    tracemalloc.start()
    try:
        for _ in range(1000):
            for line in lines:
                scanner.feed(line)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert grown < 50_000
    assert len(scanner.reports) == REPORTS_KEPT
    assert scanner.dropped == {K.WARN: 1001}
