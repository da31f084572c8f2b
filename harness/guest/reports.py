# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding what the kernel itself reports as wrong (oops, WARN, lockdep, hung task) on its console.

`PATTERNS` holds the lines that begin a report and the kernel function that prints each, as read in Linux 6.12 and 7.3.
A report is such a line, what announces it (`cut here`, a ruler) and the lines that follow, up to the report's own end
and the dump right behind it; another report, a new boot and `REPORT_LINES` end it as well.

- Reports do not nest: one that begins inside another ends it, and both count. An oops that makes the kernel panic is
  an OOPS and a PANIC; a WARN inside an oops is a WARN of its own. Only where the kernel gives one event two headlines
  (`kernel BUG at` and the `Oops:` behind it) is it one report: see `ReportPattern.more`.
- Kernel lines are those with a printk prefix; from the first of them on, a line without is user space's and neither
  begins nor continues a report. While none was ever seen (printk.time=0), every line counts.
  A prefix in the midst of a line, where the kernel cut into what a program wrote, tells its time: one before that of
  the last kernel line is a quotation.
  A pattern must match where the kernel's text begins: a line that merely mentions one does not count.
- Not reports: `[Firmware Bug]`, mitigations' `WARNING:`, the unwinder's complaints about a stack that it cannot read,
  and `unchecked MSR access error`, by which a kernel says no more than that its virtual CPU lacks a register.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

REPORT_LINES = 120  # of one report at most
REPORTS_KEPT = 50  # at most; of those that follow only the first of each kind is kept, and the others are counted
LINE_CHARACTERS = 2048  # kept of a line: PRINTK_MESSAGE_MAX, kernel/printk/internal.h
_LEAD_LINES = 10  # WARN() writes its message between `cut here` and the headline: kernel/panic.c:__warn_printk


class ReportKind(StrEnum):
    """What a report is about, in the word by which a test declares that it expects one."""

    PANIC = "panic"
    OOPS = "oops"
    BUG = "bug"
    WARN = "warn"
    LOCKDEP = "lockdep"
    KASAN = "kasan"
    KCSAN = "kcsan"
    KFENCE = "kfence"
    KMSAN = "kmsan"
    UBSAN = "ubsan"
    SLAB = "slab"
    HUNG_TASK = "hung_task"
    RCU_STALL = "rcu_stall"
    LOCKUP = "lockup"
    LEAK = "leak"
    OOM = "oom"
    DUPLICATE = "duplicate"
    IRQ = "irq"


@dataclass(frozen=True)
class KernelReport:
    """One thing that the kernel found wrong; `line_number` is that of its first line among all lines fed, from 1."""

    kind: ReportKind
    title: str
    lines: tuple[str, ...]
    line_number: int

    @property
    def text(self) -> str:
        """The whole report as the console showed it."""
        return "\n".join(self.lines)


@dataclass(frozen=True)
class ReportPattern:
    """A line that begins a report: a regular expression without groups, and the kernel function that prints it.

    With a line that matches `end` the report is complete, but for the dump text that may follow at once. A line that
    matches `more` before that belongs to it, though it could begin another.
    """

    kind: ReportKind
    start: str
    source: str
    end: re.Pattern[str]
    more: re.Pattern[str] | None = None


_LINE = re.compile("")  # complete with its first line
_MARK = re.compile(r"---\[ end trace ")  # kernel/panic.c:print_oops_end_marker, lib/ubsan.c:ubsan_epilogue
_RULER = re.compile(r"={40,}$")  # the last line of mm/kasan, mm/kfence, mm/kmsan and kernel/kcsan/report.c
_TRACE = re.compile(r"Call [Tt]race:|RIP: ")  # lib/dump_stack.c:dump_stack, show_regs()
_STACK = re.compile("stack backtrace:")  # lockdep.c shows the stacks of other places before the one where it noticed
_HELD = re.compile(r" #\d+: ")  # kernel/locking/lockdep.c:lockdep_print_held_locks
_HALT = re.compile(r"---\[ end Kernel panic|Rebooting in \d+ seconds")  # kernel/panic.c:vpanic
_DIE = re.compile(r"Oops: .*\[#\d+\]")
_SCANNED = re.compile(r"kmemleak: \d+ new suspected")  # mm/kmemleak.c:kmemleak_scan, behind the objects
_LEAKS = re.compile(r"kmemleak: (?:unreferenced object|\d+ new suspected) ")
_SLUB = re.compile(r"WARNING: .*\bmm/slub\.c:\d+ ")  # the WARN_ON(1) of mm/slub.c:__slab_err and object_err
_POOLS = re.compile("Showing b")  # kernel/workqueue.c:show_all_workqueues, show_cpu_pools_busy_workers
_HANDLERS = re.compile("handlers:")  # kernel/irq/spurious.c:__report_bad_irq

_K, _P = ReportKind, ReportPattern
PATTERNS = (
    _P(_K.PANIC, r"Kernel panic - not syncing: ", "kernel/panic.c:vpanic", _HALT),
    _P(_K.BUG, r"kernel BUG at ", "lib/bug.c:__report_bug", _MARK, _DIE),
    _P(_K.OOPS, r"BUG: kernel NULL pointer dereference, ", "arch/x86/mm/fault.c:show_fault_oops", _MARK, _DIE),
    _P(_K.OOPS, r"BUG: unable to handle page fault ", "arch/x86/mm/fault.c:show_fault_oops", _MARK, _DIE),
    _P(_K.OOPS, r"BUG: \S+ stack guard page was hit ", "arch/x86/kernel/traps.c:handle_stack_overflow", _MARK, _DIE),
    _P(_K.OOPS, _DIE.pattern, "arch/x86/kernel/dumpstack.c:__die_header", _MARK),
    _P(_K.WARN, r"WARNING: (?:CPU: \d+ PID: \d+ at |(?:\S+:\d+ )?at .+, CPU#\d+: )", "kernel/panic.c:__warn", _MARK),
    _P(_K.UBSAN, r"UBSAN: [\w-]+ in ", "lib/ubsan.c:ubsan_prologue", _MARK),
    _P(_K.KASAN, r"BUG: KASAN: ", "mm/kasan/report.c:print_error_description", _RULER),
    _P(_K.KCSAN, r"BUG: KCSAN: ", "kernel/kcsan/report.c:print_report", _RULER),
    _P(_K.KFENCE, r"BUG: KFENCE: ", "mm/kfence/report.c:kfence_report_error", _RULER),
    _P(_K.KMSAN, r"BUG: KMSAN: ", "mm/kmsan/report.c:kmsan_report", _RULER),
    _P(_K.SLAB, r"BUG .+ \((?:Not tainted|Tainted: .*)\): ", "mm/slub.c:__slab_bug", _TRACE, _SLUB),
    _P(_K.LOCKDEP, r"WARNING: possible [a-z ]+ detected", "kernel/locking/lockdep.c:print_circular_bug_header", _STACK),
    _P(_K.LOCKDEP, r"WARNING: \S+-safe -> \S+-unsafe lock order ", "lockdep.c:print_bad_irq_dependency", _STACK),
    _P(_K.LOCKDEP, r"WARNING: inconsistent lock state", "lockdep.c:print_usage_bug", _STACK),
    _P(_K.LOCKDEP, r"WARNING: chain_key collision", "lockdep.c:print_collision", _STACK),
    _P(_K.LOCKDEP, r"WARNING: Nested lock was not taken", "lockdep.c:print_lock_nested_lock_not_held", _STACK),
    _P(_K.LOCKDEP, r"WARNING: bad unlock balance detected", "lockdep.c:print_unlock_imbalance_bug", _STACK),
    _P(_K.LOCKDEP, r"WARNING: bad contention detected", "lockdep.c:print_lock_contention_bug", _STACK),
    _P(_K.LOCKDEP, r"WARNING: held lock freed", "lockdep.c:print_freed_lock_bug", _STACK),
    _P(_K.LOCKDEP, r"WARNING: .+/\d+ still has locks held!", "lockdep.c:print_held_locks_bug", _STACK),
    _P(_K.LOCKDEP, r"WARNING: suspicious RCU usage", "lockdep.c:lockdep_rcu_suspicious", _STACK),
    _P(_K.LOCKDEP, r"\[ BUG: Invalid wait context \]", "lockdep.c:print_lock_invalid_wait_context", _STACK),
    _P(_K.LOCKDEP, r"WARNING: lock held when returning to user space", "lockdep.c:lockdep_sys_exit", _HELD),
    _P(_K.LOCKDEP, r"INFO: trying to register non-static key", "lockdep.c:assign_lock_key", _TRACE),
    _P(_K.LOCKDEP, r"BUG: MAX_\w+ too low!", "lockdep.c:print_lockdep_off: locking goes unwatched from here", _TRACE),
    _P(_K.HUNG_TASK, r"INFO: task .+ blocked.* for more than \d+ sec", "kernel/hung_task.c:hung_task_info", _TRACE),
    _P(_K.RCU_STALL, r"(?:rcu: )?INFO: rcu\w* .{0,5}detected .{0,10}stall", "kernel/rcu/tree_stall.h, tasks.h", _TRACE),
    _P(_K.LOCKUP, r"watchdog: BUG: soft lockup - ", "kernel/watchdog.c:watchdog_timer_fn", _TRACE),
    _P(_K.LOCKUP, r"watchdog: .*\bdetected hard LOCKUP ", "kernel/watchdog.c:watchdog_hardlockup_check", _TRACE),
    _P(_K.LOCKUP, r"BUG: workqueue lockup - ", "kernel/workqueue.c:wq_watchdog_timer_fn", _POOLS),
    _P(_K.LOCKUP, r"smp: csd: Detected non-responsive CSD lock ", "kernel/smp.c:csd_lock_wait_toolong", _TRACE),
    _P(_K.LEAK, _LEAKS.pattern, "mm/kmemleak.c:print_unreferenced, kmemleak_scan", _SCANNED, _LEAKS),
    _P(_K.LEAK, r"kmemleak: (?:Cannot insert|.+ unknown object at) 0x", "mm/kmemleak.c:kmemleak_warn", _TRACE),
    _P(_K.LEAK, r"unregister_netdevice: waiting for ", "net/core/dev.c:netdev_wait_allrefs_any, after 10 s", _LINE),
    _P(_K.OOM, r"(?:Memory cgroup o|O)ut of memory\b.*: Killed process ", "mm/oom_kill.c:__oom_kill_process", _LINE),
    _P(_K.OOM, r".{1,15}: page allocation failure: order:", "mm/page_alloc.c:warn_alloc", _TRACE),
    _P(_K.DUPLICATE, r"sysfs: cannot create duplicate filename ", "fs/sysfs/dir.c:sysfs_warn_dup", _TRACE),
    _P(_K.IRQ, r"irq (?:event )?\d+: (?:nobody cared|bogus re)", "kernel/irq/spurious.c:__report_bad_irq", _HANDLERS),
    _P(_K.BUG, r"BUG: Bad rss-counter|BUG: non-zero pgtables_bytes", "kernel/fork.c:check_mm", _LINE),
    _P(_K.BUG, r"BUG: ", "kernel/sched/core.c:__schedule_bug, mm/page_alloc.c:bad_page and others", _TRACE),
)
_STARTS = re.compile("|".join(f"({pattern.start})" for pattern in PATTERNS))

# What printk writes before its text (kernel/printk/printk.c:info_print_prefix), if need be behind a program's prompt.
_STAMP = r"\[ *(\d+\.\d{6})\](?:\[ *[CT]\d+\])?"
_PREFIX = re.compile(rf"(?:.{{0,80}}(?:[#$>] |login: |assword: ))??(?:<\d+>)?(?:{_STAMP}|\[ {{1,4}}[CT]\d+\]) ?")
_CUT_IN = re.compile(f"{_STAMP} ")
_SKEW = 0.01  # seconds by which lines of two CPUs may be out of the order of their times
_LEAD = re.compile(r"-+\[ cut here \]-|={20,}$")  # include/asm-generic/bug.h:CUT_HERE; lockdep, slub and sanitizers
_BOOT = re.compile(r"Linux version \d")  # init/version.c:linux_banner
# What dump_stack, show_regs, sched_show_task, nmi_cpu_backtrace, make_task_dead and show_all_workqueues print.
_DUMP = re.compile(
    r"\s|$|\[<|(?:CPU|Hardware name|Workqueue|Stopper|Tainted|Modules linked in|Call [Tt]race|[ER]IP|Code|PKRU): ?"
    r"|(?:R[A-DS][XIP]|RBP|R[01]\d|[FC]S|[CD]R\d): |task:|rcu: |note: |NMI backtrace |Sending NMI |---\[ end trace "
    r"|INFO: task .* blocked on an? |Showing b|workqueue |pool \d|RCU grace-period kthread |FIX \S+: "
)


@dataclass
class _Open:
    """A report that is being read; `complete` once its end was seen, when only dump text may still follow."""

    pattern: ReportPattern
    title: str
    line_number: int
    lines: list[str] = field(default_factory=list)
    complete: bool = False

    def takes(self, text: str) -> bool:
        return len(self.lines) < REPORT_LINES and (not self.complete or _DUMP.match(text) is not None)

    def takes_headline(self, text: str) -> bool:
        more = self.pattern.more
        return more is not None and more.match(text) is not None and self.takes(text)

    def add(self, line: str, text: str) -> bool:
        """Take a line and say whether the report is complete with it."""
        self.lines.append(line)
        completes = not self.complete and self.pattern.end.match(text) is not None
        self.complete = self.complete or completes
        return completes

    def report(self) -> KernelReport:
        return KernelReport(self.pattern.kind, self.title, tuple(self.lines), self.line_number)


class ReportScanner:
    """Finds the reports in a console fed to it line by line, in bounded memory."""

    def __init__(self) -> None:
        self._dropped: Counter[ReportKind] = Counter()
        self._kept: list[KernelReport] = []
        self._open: _Open | None = None
        self._lead: list[tuple[int, str]] = []
        self._number = 0
        self._prefixed = False
        self._time = math.inf

    @property
    def reports(self) -> list[KernelReport]:
        """The reports kept, in order; the last one as it stands if it is still being printed."""
        open_ = self._open
        return [*self._kept, open_.report()] if open_ and self._keeps(open_.pattern.kind) else list(self._kept)

    @property
    def dropped(self) -> Counter[ReportKind]:
        """How many reports of each kind were not kept, also the last one if it is still being printed."""
        open_ = self._open
        return self._dropped + Counter([open_.pattern.kind] if open_ and not self._keeps(open_.pattern.kind) else [])

    def feed(self, line: str) -> None:
        """Take the next console line, printable and without its newline."""
        self._number += 1
        line = line.rstrip("\n").rpartition("\n")[2][:LINE_CHARACTERS]  # what follows a carriage return in its midst
        prefix = _PREFIX.match(line) or self._cut_in(line)
        if prefix is None and self._prefixed:
            return
        self._prefixed = prefix is not None
        if prefix is not None and prefix[1]:
            self._time = float(prefix[1])
        self._take(line, line[prefix.end() :] if prefix else line)

    def finish(self) -> None:
        """State that no more lines come; what is still open is a report as it stands."""
        open_, self._open = self._open, None
        if open_ and self._keeps(open_.pattern.kind):
            self._kept.append(open_.report())
        elif open_:
            self._dropped[open_.pattern.kind] += 1

    def _take(self, line: str, text: str) -> None:
        if _BOOT.match(text):
            self.finish()
        headline, completes = _STARTS.match(text), False
        if headline is not None and not (self._open and self._open.takes_headline(text)):
            self._begin(PATTERNS[(headline.lastindex or 1) - 1], line, text)
            return
        if self._open and self._open.takes(text):
            completes = self._open.add(line, text)
        else:
            self.finish()
        if _LEAD.match(text) and not completes:
            self._lead = [(self._number, line)]
        elif self._lead:
            self._lead = [] if headline or len(self._lead) >= _LEAD_LINES else [*self._lead, (self._number, line)]

    def _begin(self, pattern: ReportPattern, line: str, text: str) -> None:
        lead, self._lead = self._lead, []
        if self._open is not None:  # it took for its own what announces this one
            del self._open.lines[len(self._open.lines) - len(lead) :]
        self.finish()
        self._open = _Open(pattern, text.strip(), lead[0][0] if lead else self._number, [held for _, held in lead])
        self._open.add(line, text)

    def _cut_in(self, line: str) -> re.Match[str] | None:
        """Find the prefix of a kernel line that begins in the midst of a program's."""
        return next((stamp for stamp in _CUT_IN.finditer(line) if float(stamp[1]) >= self._time - _SKEW), None)

    def _keeps(self, kind: ReportKind) -> bool:
        return len(self._kept) < REPORTS_KEPT or all(report.kind is not kind for report in self._kept)
