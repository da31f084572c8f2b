# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of report is found, whole and with its title, and nothing that only looks like one."""

from __future__ import annotations

import re

import pytest
from consoles import (
    AFTER,
    BEFORE,
    CUT,
    FRAMES,
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
    stamped,
)

from harness.guest.reports import PATTERNS, ReportKind

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


def test_a_kind_is_a_lowercase_word_that_compares_as_text() -> None:
    assert [kind for kind in ReportKind if not re.fullmatch(r"[a-z]+(_[a-z]+)?", kind)] == []
    assert ReportKind("hung_task") == "hung_task"
