# SPDX-License-Identifier: GPL-2.0-or-later
"""Consoles as Linux 6.12 and 7.3 write them, those of SR-IOV and memory shortened from real guests; and a scanner."""

from __future__ import annotations

from collections.abc import Iterable

from harness.guest.reports import KernelReport, ReportKind, ReportScanner

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
KILLED = (
    "Out of memory: Killed process 147 (tail) total-vm:194784kB, anon-rss:192640kB, file-rss:0kB, "
    "shmem-rss:1324kB, UID:0 pgtables:420kB oom_score_adj:0"
)


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
