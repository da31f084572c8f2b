# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a machine has come and whether it still lives: told by its console, QMP and process, awaited by others."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from harness.deadline import Deadline
from harness.errors import Stage
from harness.qemu.process import Exit
from harness.qemu.qmp import Event

_log = logging.getLogger(__name__)

INIT_MARK = "iov-harness: init"
READY_MARK = "iov-harness: ready"
LOST_MARK = "iov-harness: lost: "
"""What `guest-images/initramfs/init` has the kernel say at its start, when SSH listens and drivers have met their
devices, and before the reason why it cannot get there.
"""
_BEFORE_MARK = re.compile(r"^.*\[ *\d+\.\d{6}\](?:\[ *[CT]\d+\])? (?=iov-harness: )")
"""printk's prefix (kernel/printk/printk.c, info_print_prefix), behind what a program wrote when the kernel cut in."""
_PANIC = "Kernel panic - not syncing"
_PANIC_END = "---[ end Kernel panic"
"""From kernel/panic.c, vpanic(); the end mark comes only where the kernel neither restarts nor has a pvpanic driver."""
_ORDER = tuple(Stage)
_TIMED = re.compile(r"APIC calibration not consistent with PM-Timer: (\d+)ms instead of 100ms")
"""arch/x86/kernel/apic/apic.c, calibrate_by_pmtimer(), a warning."""
_SHORTEST = 67
"""Milliseconds: what was timed over as many is told to be half as fast again as it is, at the very most."""


def mistiming(line: str) -> str:
    """Say how a kernel that prints this line may have misjudged its local APIC timer; empty where it has not.

    It reads that timer and then the PM timer, and both again 100 ms later (lapic_cal_handler()), and takes the PM
    timer's word for how long that was. Where the host lets an emulated CPU wait between the first two, it seems to have
    been a moment only, in which the local APIC's timer came far: it is taken to be up to some thousand times as fast as
    it is, and all that waits in the guest waits so much longer. Where the CPU had to wait before, the span is as short
    and the rate is right: the line does not tell. A long span makes timers early, which they mend by themselves.
    """
    found = _TIMED.search(line)
    if found is None or int(found[1]) >= _SHORTEST:
        return ""
    return (
        f"its kernel timed its local APIC timer over {found[1]} ms instead of 100, while the host let QEMU wait: "
        "it may take it to be far too fast"
    )


class Health:
    """Watches one machine. Its `on_...` methods are called in the loop's thread.

    `on_loss` is called once, with the reason, when the machine stops being of use. `name` tells machines apart in the
    log, whose times are seconds since the machine was made. One whose kernel may have misjudged its timer counts as
    lost; `mistimed` then says how.
    """

    def __init__(self, on_loss: Callable[[str], None], name: str = "machine") -> None:
        self._on_loss = on_loss
        self._name = name
        self._made = time.monotonic()
        self._changed = threading.Condition()
        self._panic = ""
        self.stage = Stage.QEMU
        self.loss: str | None = None
        self.exit: Exit | None = None
        self.ready = False
        self.mistimed = ""

    def started(self) -> None:
        """Note that QEMU runs and answers."""
        self._advance(Stage.FIRMWARE)

    def restored(self) -> None:
        """Note that the machine goes on where its checkpoint was made: the guest is ready."""
        self._advance(Stage.SSH, ready=True)

    def connected(self) -> None:
        """Note that the guest answers over SSH."""
        self._advance(Stage.PLUG, ready=True)

    def on_line(self, line: str) -> None:
        """Take a console line."""
        if self.stage in (Stage.QEMU, Stage.FIRMWARE):
            self._advance(Stage.KERNEL)  # SeaBIOS says nothing on the serial port: the first word is the kernel's
        line = _BEFORE_MARK.sub("", line)
        if self.stage is Stage.KERNEL and (mistimed := mistiming(line)):
            self.mistimed = mistimed
            self._lose(mistimed)
        elif line.startswith(INIT_MARK) and self.stage is Stage.KERNEL:
            self._advance(Stage.INIT)
        elif line.startswith(LOST_MARK) and self.stage is Stage.INIT:
            self._lose(line.removeprefix(LOST_MARK))
        elif line.startswith(READY_MARK) and self.stage is Stage.INIT:
            self._advance(Stage.SSH, ready=True)
        elif _PANIC_END in line:
            self._lose()
        elif _PANIC in line:
            self._panic = line[line.index(_PANIC) :]

    def on_event(self, event: Event) -> None:
        """Take a QMP event."""
        if event.name == "GUEST_PANICKED":
            self._lose()
        elif event.name == "SHUTDOWN":
            self._lose(f"the guest went down ({event.data.get('reason', 'no reason given')})")

    def on_exit(self, how: Exit) -> None:
        """Take the end of QEMU."""
        self.exit = how
        self._lose(str(how))

    def wait(self, deadline: Deadline) -> None:
        """Wait until the guest is ready or lost; raises `DeadlineExpired`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.ready or self.loss is not None, deadline.remaining()):
                raise deadline.error()

    def wait_exit(self, deadline: Deadline) -> Exit | None:
        """Wait for the end of QEMU; None where it does not come in time."""
        with self._changed:
            self._changed.wait_for(lambda: self.exit is not None, deadline.remaining())
        return self.exit

    def _advance(self, stage: Stage, *, ready: bool = False) -> None:
        with self._changed:
            if _ORDER.index(stage) <= _ORDER.index(self.stage):
                return  # the console was quicker than QMP
            self.stage = stage
            self.ready = ready
            self._changed.notify_all()
        _log.info("%s: %.1f s: stage %s", self._name, time.monotonic() - self._made, stage)

    def _lose(self, reason: str = "") -> None:
        with self._changed:
            first = self.loss is None
            if first:
                self.loss = self._panic or reason or "the guest's kernel panicked"
            self._changed.notify_all()
        if first:
            self._on_loss(str(self.loss))
