# SPDX-License-Identifier: GPL-2.0-or-later
"""Consoles as Linux 6.12 and 7.3 write them: those of SR-IOV and of memory are shortened from real guests."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterable

import pytest

from harness.guest.reports import (
    LINE_CHARACTERS,
    PATTERNS,
    REPORT_LINES,
    REPORTS_KEPT,
    KernelReport,
    ReportKind,
    ReportScanner,
)
from harness.text import decoded

BEFORE = "pci 0000:01:10.0: [8086:10ca] type 00 class 0x020000 PCIe Endpoint"
AFTER = "igb 0000:01:00.0: 2 VFs allocated"
FRAMES = """\
CPU: 0 UID: 0 PID: 145 Comm: init Not tainted 6.12.107+deb13-amd64 #1  Debian 6.12.107-1
Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.17.0-debian-1.17.0-1~bpo13+1 04/01/2014
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
 sriov_numvfs_store+0xd7/0x180
 ? __pte_offset_map+0x1b/0x180
 entry_SYSCALL_64_after_hwframe+0x76/0x7e
RIP: 0033:0x47b7a0
Code: 40 00 48 c7 c2 e0 ff ff ff f7 d8 64 89 02 48 c7 c0 ff ff ff ff eb b7 0f 1f 00 80 3d
RSP: 002b:00007ffca6a72178 EFLAGS: 00000202 ORIG_RAX: 0000000000000001
RAX: ffffffffffffffda RBX: 0000000000000001 RCX: 000000000047b7a0
R13: 000000003443f3a0 R14: 0000000000000001 R15: 00007ffca6a721e0
 </TASK>"""
CUT = "------------[ cut here ]------------"
MARK = "---[ end trace 0000000000000000 ]---"
OOPS = f"""\
BUG: kernel NULL pointer dereference, address: 00000000000000d0
#PF: supervisor read access in kernel mode
#PF: error_code(0x0000) - not-present page
PGD 2a6e067 P4D 2a67067 PUD 2534067 PMD 0
Oops: Oops: 0000 [#1] SMP NOPTI
{FRAMES}
Modules linked in: pci_pf_stub
CR2: 00000000000000d0
{MARK}
RIP: 0010:device_del+0x3e/0x3e0
RSP: 0018:ff54eb3700423bc0 EFLAGS: 00010246
R10: 0000000000000004 R11: 0000000000000000 R12: ff162049023550d0
FS:  0000000030ccb3c0(0000) GS:ff162049612e7000(0000) knlGS:0000000000000000
CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033
CR2: 00000000000000d0 CR3: 0000000002a71000 CR4: 0000000000751ef0
PKRU: 55555554
note: init[111] exited with irqs disabled"""
PANIC = f"""\
Kernel panic - not syncing: Fatal exception
{FRAMES}
Kernel Offset: 0x23e00000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)
---[ end Kernel panic - not syncing: Fatal exception ]---"""
WARN_6 = f"""\
{CUT}
WARNING: CPU: 0 PID: 145 at drivers/pci/probe.c:2654 pci_device_add+0x5a0/0x600
Modules linked in: pci_pf_stub
{FRAMES}
{MARK}"""
WARN_7 = f"""\
{CUT}
refcount_t: underflow; use-after-free.
WARNING: lib/refcount.c:28 at refcount_warn_saturate+0x55/0x90, CPU#0: init/111
{FRAMES}
{MARK}"""
SYSFS = f"""\
sysfs: cannot create duplicate filename '/devices/pci0000:00/0000:00:01.0/0000:01:10.0'
{FRAMES}"""
CIRCULAR = f"""\
======================================================
WARNING: possible circular locking dependency detected
6.12.107 #1 Not tainted
------------------------------------------------------
sh/145 is trying to acquire lock:
ffffffff82a3a3e8 (pci_rescan_remove_lock){{+.+.}}-{{4:4}}, at: sriov_numvfs_store+0x61/0x180

but task is already holding lock:
ff15a1db02374108 (&dev->mutex){{....}}-{{4:4}}, at: sriov_numvfs_store+0x3c/0x180

the existing dependency chain (in reverse order) is:

-> #1 (&dev->mutex){{....}}-{{4:4}}:
       __mutex_lock+0xa8/0xc30
       device_release_driver+0x1d/0x40

other info that might help us debug this:

 *** DEADLOCK ***

2 locks held by sh/145:
 #0: ff15a1db01bf4420 (sb_writers#4){{.+.+}}-{{0:0}}, at: ksys_write+0x6d/0xf0

stack backtrace:
{FRAMES}"""
HUNG = """\
INFO: task sh:145 blocked for more than 120 seconds.
      Not tainted 6.12.107+deb13-amd64 #1 Debian 6.12.107-1
"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
task:sh              state:D stack:0     pid:145   tgid:145   ppid:1      flags:0x00004002
Call Trace:
 <TASK>
 schedule_preempt_disabled+0x15/0x30
 </TASK>
INFO: task sh:145 is blocked on a mutex likely owned by task sh:146.
task:sh              state:D stack:0     pid:146   tgid:146   ppid:1      task_flags:0x400000 flags:0x00004002
Call Trace:
 <TASK>
 __mutex_lock+0xa8/0xc30
 </TASK>"""
KASAN = f"""\
==================================================================
BUG: KASAN: slab-use-after-free in pci_iov_remove_virtfn+0x2d/0x120
Read of size 8 at addr ff1100000a2b4010 by task sh/145

{FRAMES}

Allocated by task 145:
 kasan_save_stack+0x33/0x60

The buggy address belongs to the object at ff1100000a2b4000
 which belongs to the cache kmalloc-2k of size 2048
Memory state around the buggy address:
>ff1100000a2b4000: fa fb fb fb fb fb fb fb fb fb fb fb fb fb fb fb
                         ^
=================================================================="""
RULED = """\
==================================================================
BUG: {name} in pci_read_config_word+0x2d/0x120

value changed: 0x00000001 -> 0x00000002
CPU: 1 UID: 0 PID: 145 Comm: sh Not tainted 7.3.4 #1 PREEMPT(lazy)
=================================================================="""
SLAB_6 = f"""\
=============================================================================
BUG kmalloc-64 (Tainted: G    B   W         ): Poison overwritten
-----------------------------------------------------------------------------

0xff1100000a2b4010-0xff1100000a2b4010 @offset=16. First byte 0x6a instead of 0x6b
Allocated in pci_alloc_dev+0x21/0x60 age=112 cpu=0 pid=145
 __kmalloc_cache_noprof+0x1d2/0x2f0
Object   ff1100000a2b4010: 6a 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  jkkkkkkkkkkkkkkk
{FRAMES}
FIX kmalloc-64: Restoring Poison 0xff1100000a2b4010-0xff1100000a2b4010=0x6b"""
SLAB_7 = f"""\
=============================================================================
BUG kmalloc-64 (Not tainted): Right Redzone overwritten
-----------------------------------------------------------------------------

Slab 0xffd4000000280ac0 objects=21 used=20 fp=0xff1100000a2b4fc0 flags=0xfffffc0000200(workingset)
{CUT}
WARNING: mm/slub.c:1291 at object_err+0x4a/0x60, CPU#0: sh/145
{FRAMES}
{MARK}"""
RCU = f"""\
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
rcu: \t1-...0: (1 GPs behind) idle=9d64/1/0x4000000000000000 softirq=812/813 fqs=5250
rcu: \t(detected by 0, t=21002 jiffies, g=1037, q=35 ncpus=2)
Sending NMI from CPU 0 to CPUs 1:
NMI backtrace for cpu 1
{FRAMES}
rcu: rcu_preempt kthread starved for 20999 jiffies! g1037 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0
rcu: RCU grace-period kthread stack dump:
task:rcu_preempt     state:R stack:0     pid:16    tgid:16    ppid:2      flags:0x00004000
Call Trace:
 <TASK>
 rcu_gp_fqs_loop+0x10a/0x600
 </TASK>"""
EXPEDITED = f"""\
rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: {{ 1-...D }} 21007 jiffies s: 57 root: 0x2/.
rcu: blocking rcu_node structures (internal RCU debug):
{FRAMES}"""
SOFT = f"""\
watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:145]
CPU#0 Utilization every 4s during lockup:
\t#1: 100% system,\t  0% softirq,\t  0% hardirq,\t  0% idle
Modules linked in: pci_pf_stub
{FRAMES}"""
WORKQUEUE = """\
BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!
Showing busy workqueues and worker pools:
workqueue events: flags=0x100
  pwq 2: cpus=0 node=0 flags=0x0 nice=0 active=1 refcnt=2
    in-flight: 9:pci_remove_work
pool 2: cpus=0 node=0 flags=0x0 nice=0 hung=33s workers=2 idle: 44
Showing backtraces of busy workers in stalled worker pools:
pool 2:
task:kworker/0:1     state:R stack:0     pid:9     tgid:9     ppid:2      flags:0x00004000
Call Trace:
 <TASK>
 </TASK>"""
KMEMLEAK = """\
kmemleak: unreferenced object 0xff1100000a2b4000 (size 64):
kmemleak:   comm "sh", pid 145, jiffies 4294894652
kmemleak:   backtrace (crc 5d4b0c2a):
kmemleak:     pci_alloc_dev+0x21/0x60
kmemleak: unreferenced object 0xff1100000a2b4040 (size 64):
kmemleak:   comm "sh", pid 145, jiffies 4294894653
kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"""
NOBODY = f"""\
irq 22: nobody cared (try booting with the "irqpoll" option)
{FRAMES}
handlers:
[<00000000e1b2c3d4>] igb_intr [igb] threaded [<00000000e1b2c3d5>] igb_thread [igb]"""
SLEEPING = f"""\
BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585
in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 145, name: sh
preempt_count: 1, expected: 0
RCU nest depth: 0, expected: 0
2 locks held by sh/145:
 #0: ff15a1db01bf4420 (sb_writers#4){{.+.+}}-{{0:0}}, at: ksys_write+0x6d/0xf0
Preemption disabled at:
[<ffffffff8163a1b0>] pci_bus_read_config_word+0x30/0x80
{FRAMES}"""
UBSAN = f"""\
{CUT}
UBSAN: array-index-out-of-bounds in drivers/pci/iov.c:512:9
index 7 is out of range for type 'resource [6]'
{FRAMES}
---[ end trace ]---"""
KILLED = (
    "Out of memory: Killed process 147 (tail) total-vm:194784kB, anon-rss:192640kB, file-rss:0kB, "
    "shmem-rss:1324kB, UID:0 pgtables:420kB oom_score_adj:0"
)
FAILED = "sh: page allocation failure: order:9, mode:0xdc0(GFP_KERNEL|__GFP_ZERO), nodemask=(null),cpuset=/"
HELD = """\
================================================
WARNING: lock held when returning to user space!
7.3.4 #1 Not tainted
------------------------------------------------
sh/145 is leaving the kernel with locks still held!
locks held by sh/145: 1, on CPU#0:
 #0: ff15a1db02374108 (&dev->mutex){....}-{4:4}, at: sriov_numvfs_store+0x3c/0x180"""
LOCKDEP_HEADLINES = [
    "WARNING: possible recursive locking detected",
    "WARNING: possible irq lock inversion dependency detected",
    "WARNING: SOFTIRQ-READ-safe -> SOFTIRQ-READ-unsafe lock order detected",
    "WARNING: inconsistent lock state",
    "WARNING: chain_key collision",
    "WARNING: Nested lock was not taken",
    "WARNING: bad unlock balance detected!",
    "WARNING: bad contention detected!",
    "WARNING: held lock freed!",
    "WARNING: kworker/u8:3/145 still has locks held!",
    "WARNING: suspicious RCU usage",
    "BUG: MAX_LOCKDEP_ENTRIES too low!",
]
K = ReportKind
SAMPLES = [
    (K.PANIC, PANIC),
    (K.OOPS, OOPS),
    (K.OOPS, f"Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP\n{MARK}"),
    (
        K.OOPS,
        f"BUG: TASK stack guard page was hit at ff5 (stack is f4..ff4)\nOops: stack guard page: 0000 [#2]\n{MARK}",
    ),
    (K.BUG, f"{CUT}\nkernel BUG at lib/list_debug.c:32!\nOops: invalid opcode: 0000 [#1] SMP NOPTI\n{FRAMES}\n{MARK}"),
    (K.OOPS, f"BUG: unable to handle page fault for address: ff16\nOops: Oops: 0002 [#1] SMP NOPTI\n{FRAMES}\n{MARK}"),
    (K.BUG, SLEEPING),
    (K.BUG, f"BUG: scheduling while atomic: sh/145/0x00000002\nModules linked in: pci_pf_stub\n{FRAMES}"),
    (K.BUG, f"BUG: Bad page state in process sh  pfn:0a2b4\npage dumped because: nonzero _refcount\n{FRAMES}"),
    (K.BUG, "BUG: Bad rss-counter state mm:00000000e1b2c3d4 type:MM_ANONPAGES val:1"),
    (K.WARN, WARN_6),
    (K.WARN, WARN_7),
    (K.WARN, f"{CUT}\nWARNING: at pci_device_add+0x5d0/0x6b0, CPU#0: init/111\n{FRAMES}\n{MARK}"),
    (K.LOCKDEP, CIRCULAR),
    (K.LOCKDEP, f"[ BUG: Invalid wait context ]\nsh/145 is trying to lock:\nstack backtrace:\n{FRAMES}"),
    (K.LOCKDEP, f"WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected\n\nstack backtrace:\n{FRAMES}"),
    (K.LOCKDEP, f"INFO: trying to register non-static key.\nturning off the locking correctness validator.\n{FRAMES}"),
    (K.LOCKDEP, HELD),
    (K.KASAN, KASAN),
    (K.KCSAN, RULED.format(name="KCSAN: data-race")),
    (K.KFENCE, RULED.format(name="KFENCE: use-after-free read")),
    (K.KMSAN, RULED.format(name="KMSAN: uninit-value")),
    (K.UBSAN, UBSAN),
    (K.SLAB, SLAB_6),
    (K.SLAB, SLAB_7),
    (K.HUNG_TASK, HUNG),
    (K.RCU_STALL, RCU),
    (K.RCU_STALL, EXPEDITED),
    (K.RCU_STALL, f"rcu: INFO: rcu_sched self-detected stall on CPU\nrcu: \t(t=21003 jiffies)\n{FRAMES}"),
    (K.RCU_STALL, f"INFO: rcu_tasks detected stalls on tasks:\n{FRAMES}"),
    (K.LOCKUP, SOFT),
    (K.LOCKUP, f"watchdog: Watchdog detected hard LOCKUP on cpu 1\n{FRAMES}"),
    (K.LOCKUP, f"watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 1\n{FRAMES}"),
    (K.LOCKUP, WORKQUEUE),
    (K.LOCKUP, f"smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000000000 ns for CPU#01\n{FRAMES}"),
    (K.LEAK, KMEMLEAK),
    (K.LEAK, "kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"),
    (K.LEAK, f"kmemleak: Cannot insert 0xff11 into the object search tree (overlaps existing)\n{FRAMES}"),
    (K.LEAK, f"kmemleak: Partially freeing unknown object at 0xff1100000a2b4000 (size 64)\n{FRAMES}"),
    (K.LEAK, "unregister_netdevice: waiting for eth1 to become free. Usage count = 2"),
    (K.OOM, KILLED),
    (K.OOM, f"Memory cgroup o{KILLED[1:]}"),
    (K.OOM, f"{FAILED}\n{FRAMES}"),
    (K.DUPLICATE, SYSFS),
    (K.IRQ, NOBODY),
    (K.IRQ, f"irq event 22: bogus return value 4\n{FRAMES}\nhandlers:\n[<00000000e1b2c3d4>] igb_intr [igb]"),
]
HARMLESS = """\
Warning: unable to open an initial console.
[Firmware Bug]: TSC_DEADLINE disabled due to Errata; please update microcode to version: 0x22 (or later)
ACPI BIOS Error (bug): Could not resolve symbol [\\_SB.PCI0.XHC], AE_NOT_FOUND (20240827/psargs-330)
WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 12MB of RAM.
PCI: BIOS BUG #87[00000000] found
Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2 BHB attacks!
RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!
WARNING: kernel stack regs at (____ptrval____) in sh:145 has bad 'bp' value (____ptrval____)
unchecked MSR access error: RDMSR from 0x852 at rIP: 0xffffffff8108c0d6 (native_read_msr+0x6/0x30)
spurious 8259A interrupt: IRQ7.
DEBUG: pci_enable_sriov: WARNING: CPU: 0 PID: 1 at drivers/pci/iov.c:1 sriov_enable+0x1/0x2
debugfs: Directory 'regulator' with parent '/' already present!
INFO: lockdep is turned off.
INFO: NMI handler (perf_event_nmi_handler) took too long to run: 1.234 msecs
rcu: INFO: Stall ended before state dump start
Oops: Not a creditcard
systemd[1]: Kernel panic - not syncing: is what we look for
init: BUG: unable to handle page fault for address: 0
kmemleak: Kernel memory leak detector initialized (mem pool available: 15679)
traps: sh[145] general protection fault ip:47b7a0 sp:7ffca6a72178 error:0 in busybox[401000+1c2000]
Lockdep: WARNING: possible circular locking dependency detected
WARNING: sysfs attribute is deprecated and will be removed.
note: BUG at nothing
======================================================
------------[ cut here ]------------""".splitlines()


def stamped(text: str, start: float = 8.9, caller: str = "") -> list[str]:
    return [f"[{start + number / 1e6:12.6f}]{caller} {line}" for number, line in enumerate(text.splitlines())]


def scanner_fed(lines: Iterable[str]) -> ReportScanner:
    scanner = ReportScanner()
    for line in lines:
        scanner.feed(line)
    return scanner


def scanned(lines: Iterable[str]) -> list[KernelReport]:
    scanner = scanner_fed(lines)
    scanner.finish()
    return scanner.reports


def kinds(lines: Iterable[str]) -> list[ReportKind]:
    return [report.kind for report in scanned(lines)]


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_a_report_is_found_whole_between_other_lines(kind: ReportKind, sample: str) -> None:
    lines = stamped(f"{BEFORE}\n{sample}\n{AFTER}\n{AFTER}")

    reports = scanned(lines)

    assert [report.kind for report in reports] == [kind]
    assert reports[0].text.splitlines() == lines[1:-2]
    assert reports[0].line_number == 2


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_a_report_is_found_with_caller_ids_and_without_any_timestamps(kind: ReportKind, sample: str) -> None:
    assert kinds(stamped(sample, caller="[    T1]")) == [kind]
    assert kinds(stamped(sample, caller="[   C12]")) == [kind]
    assert kinds(f"<4>{line}" for line in stamped(sample)) == [kind]
    assert kinds(f"[  T123] {line}" for line in sample.splitlines()) == [kind]
    assert kinds(sample.splitlines()) == [kind]


@pytest.mark.parametrize(
    ("sample", "title"),
    [
        (WARN_6, "WARNING: CPU: 0 PID: 145 at drivers/pci/probe.c:2654 pci_device_add+0x5a0/0x600"),
        (WARN_7, "WARNING: lib/refcount.c:28 at refcount_warn_saturate+0x55/0x90, CPU#0: init/111"),
        (OOPS, "BUG: kernel NULL pointer dereference, address: 00000000000000d0"),
        (CIRCULAR, "WARNING: possible circular locking dependency detected"),
        (SLAB_7, "BUG kmalloc-64 (Not tainted): Right Redzone overwritten"),
        (KILLED, KILLED),
    ],
)
def test_a_title_is_the_headline_without_its_timestamp(sample: str, title: str) -> None:
    assert [report.title for report in scanned(stamped(sample))] == [title]


@pytest.mark.parametrize("line", HARMLESS)
def test_a_harmless_lookalike_is_no_report(line: str) -> None:
    assert kinds(stamped(f"{line}\n{AFTER}")) == []
    assert kinds([line, AFTER]) == []


@pytest.mark.parametrize("headline", LOCKDEP_HEADLINES)
def test_each_headline_of_lockdep_is_known(headline: str) -> None:
    assert kinds(stamped(headline)) == [K.LOCKDEP]


def test_every_kind_and_every_pattern_is_met_by_a_sample() -> None:
    lines = [line for _, sample in SAMPLES for line in sample.splitlines()] + LOCKDEP_HEADLINES
    unmet = [pattern.start for pattern in PATTERNS if not any(re.match(pattern.start, line) for line in lines)]

    assert unmet == []
    assert {kind for kind, _ in SAMPLES} == set(ReportKind)


def test_no_pattern_has_groups_and_every_one_names_its_kernel_function() -> None:
    assert [pattern.start for pattern in PATTERNS if re.compile(pattern.start).groups] == []
    assert [pattern.source for pattern in PATTERNS if not re.match(r"[\w/]+\.[ch]\b", pattern.source)] == []


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


def test_a_panic_is_known_at_once_and_for_good() -> None:
    scanner = scanner_fed(stamped(OOPS))
    assert not scanner.panicked

    scanner.feed("[   12.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009")
    assert scanner.panicked

    for line in stamped(SYSFS):
        scanner.feed(line)
    scanner.finish()
    assert scanner.panicked


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
    open_and_dropped = scanner.reports
    scanner.finish()

    assert [report.kind for report in scanner.reports] == [K.WARN] * REPORTS_KEPT + [K.KASAN]
    assert scanner.reports == open_and_dropped
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


def test_a_kind_is_a_lowercase_word_that_compares_as_text() -> None:
    assert [kind for kind in ReportKind if not re.fullmatch(r"[a-z]+(_[a-z]+)?", kind)] == []
    assert ReportKind("hung_task") == "hung_task"
