# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's log as it lies in memory, for a guest that no longer tells it."""

from __future__ import annotations

from drgn import Program
from drgn.helpers.linux.printk import PrintkRecord, get_printk_records

from harness.guest.introspect.failures import KernelNonsense
from harness.text import decoded

_SIZE_BITS = 25
"""log2 of the bytes of the log: the most that CONFIG_LOG_BUF_SHIFT allows (init/Kconfig)."""
_DESCRIPTOR_BITS = _SIZE_BITS - 5
"""log2 of the records of the log: it has one for 2^5 bytes (kernel/printk/printk.c, PRB_AVGBITS)."""
_ID_MASK = (1 << 62) - 1
"""Of a descriptor's state: its number (kernel/printk/printk_ringbuffer.h, DESC_ID_MASK)."""


def printk(program: Program) -> list[str]:
    """Read the log's lines, oldest first, each with its time stamp, as dmesg prints them; raises as `functions`."""
    _check_size(program)
    return [line for record in get_printk_records(program) for line in _lines(record)]


def _check_size(program: Program) -> None:
    """Refuse a ring buffer in which drgn would go round and round (kernel/printk/printk_ringbuffer.h)."""
    ring = program["prb"].desc_ring
    bits = ring.count_bits.value_()
    span = (ring.head_id.counter.value_() - ring.tail_id.counter.value_()) & _ID_MASK
    size_bits = program["prb"].text_data_ring.size_bits.value_()
    if size_bits > _SIZE_BITS or bits > _DESCRIPTOR_BITS or span >= 1 << bits:
        raise KernelNonsense(f"the kernel's log says that it has {span} records of 2^{bits}")


def _lines(record: PrintkRecord) -> list[str]:
    seconds, rest = divmod(record.timestamp, 1_000_000_000)
    return [f"[{seconds:5d}.{rest // 1000:06d}] {line}" for line in decoded(record.text).split("\n")]
