# SPDX-License-Identifier: GPL-2.0-or-later
"""A base machine, stopped and kept: guest RAM in one file, the state of its devices in another.

QEMU maps the RAM file instead of writing guest RAM into the migration stream (`x-ignore-shared`), so saving takes
milliseconds, and any number of clones share the file's pages until they write to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.qemu.qmp import Event, Monitor

_CAPABILITIES = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
_QUIETLY = {"announce-rounds": 0}
"""No gratuitous ARP after a restore: a clone's NIC is known to nobody on its private network."""
_ENDS = ("completed", "failed", "cancelled")


class NotMigrated(Exception):
    """QEMU could not write or take the state of a machine; the text says why."""


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint, in one folder."""

    folder: Path

    @property
    def ram(self) -> Path:
        """The guest's memory, as long as the memory itself, with holes where it was never written."""
        return self.folder / "ram"

    @property
    def state(self) -> Path:
        """QEMU's migration stream without the RAM."""
        return self.folder / "state"

    @property
    def greeting(self) -> Path:
        """What the guest's SSH server had said on the guest's link (`harness.guest.link`)."""
        return self.folder / "greeting"

    @property
    def console(self) -> Path:
        """What the console had said until then."""
        return self.folder / "console.log"


def save(qmp: Monitor, checkpoint: Checkpoint, deadline: Deadline) -> None:
    """Stop the machine, whose memory is the checkpoint's RAM file, and write its state; raises as `restore`."""
    qmp.execute("stop")
    _migrate(qmp, "migrate", checkpoint, deadline)


def restore(qmp: Monitor, checkpoint: Checkpoint, deadline: Deadline) -> None:
    """Read the state into a QEMU that awaits it, and let the machine go on.

    Raises `NotMigrated` or `CommandRefused` where QEMU does not take it, `QmpLost` or `DeadlineExpired`.
    """
    qmp.command("migrate-set-parameters", _QUIETLY)
    _migrate(qmp, "migrate-incoming", checkpoint, deadline)
    qmp.execute("cont")


def _migrate(qmp: Monitor, command: str, checkpoint: Checkpoint, deadline: Deadline) -> None:
    def over(event: Event) -> bool:
        return event.data.get("status") in _ENDS

    since = len(qmp.events)
    qmp.execute("migrate-set-capabilities", capabilities=_CAPABILITIES)
    qmp.execute(command, uri=f"file:{checkpoint.state}")
    status = qmp.wait_event("MIGRATION", deadline, matching=over, since=since).data["status"]
    if status != "completed":
        answer: dict[str, Any] = qmp.execute("query-migrate")
        raise NotMigrated(f"QMP {command} {status}: {answer.get('error-desc', 'no reason given')}")
