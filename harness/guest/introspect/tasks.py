# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks that the kernel does not let go on (state D): where they wait, for which lock, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from drgn import Object, Program
from drgn.helpers.linux.locking import mutex_owner
from drgn.helpers.linux.sched import task_state_to_char

from harness.guest.introspect.memory import array_text, bounded, entries, symbol, text
from harness.text import printable

_FRAMES = 64
"""Frames of one stack: the deepest that matter here have some twenty."""
_MAX_LOCK_DEPTH = 48
"""Locks that lockdep follows for one task (include/linux/sched.h)."""


@dataclass(frozen=True)
class Task:
    """A task in uninterruptible sleep, innermost frame first.

    `waits_for` is the mutex for which it waits, where the kernel notes that, and `held_by` the process id of who has
    it. `held_locks` are those that it holds itself; None for a kernel without lockdep, which alone keeps account.
    """

    pid: int
    comm: str
    stack: tuple[str, ...]
    waits_for: str | None
    held_by: int | None
    held_locks: tuple[str, ...] | None


def blocked_tasks(program: Program) -> list[Task]:
    """Read all tasks in state D, in the order of their process ids; raises as `functions`."""
    blocked = [_task(program, one) for one in _tasks(program) if task_state_to_char(one) == "D"]
    return sorted(blocked, key=lambda task: task.pid)


def _tasks(program: Program) -> Iterator[Object]:
    """Give the `struct task_struct *` of every thread but the idle ones."""
    leaders = entries(program["init_task"].tasks, "struct task_struct", "tasks", "processes")
    return bounded(
        (one for leader in leaders for one in entries(
            leader.signal.thread_head, "struct task_struct", "thread_node", "threads")),
        "tasks",
    )  # fmt: skip


def _task(program: Program, task: Object) -> Task:
    waits_for, held_by = _awaited(program, task)
    frames = islice(program.stack_trace(task), _FRAMES)
    return Task(
        pid=task.pid.value_(),
        comm=array_text(task.comm.read_()),
        stack=tuple(printable(frame.name) for frame in frames),
        waits_for=waits_for,
        held_by=held_by,
        held_locks=_held(task),
    )


def _awaited(program: Program, task: Object) -> tuple[str | None, int | None]:
    """Give the mutex for which a task waits, and who holds it; both None where the kernel does not say.

    `blocked_on` is there with CONFIG_DEBUG_MUTEXES, and since Linux 6.17 always (include/linux/sched.h).
    """
    task_type = program.type("struct task_struct")
    if not task_type.has_member("blocked_on"):
        return None, None
    mutex = task.blocked_on.read_()
    if mutex.type_.type.type_name() != "struct mutex":  # with CONFIG_DEBUG_MUTEXES it was a waiter, which names no lock
        return None, None
    if not mutex:
        return None, None
    owner = mutex_owner(mutex)
    return symbol(program, mutex.value_()), owner.pid.value_() if owner else None


def _held(task: Object) -> tuple[str, ...] | None:
    """Give the names of the locks that lockdep knows the task to hold."""
    if not task.prog_.type("struct task_struct").has_member("held_locks"):
        return None
    depth = min(max(task.lockdep_depth.value_(), 0), _MAX_LOCK_DEPTH)
    return tuple(text(task.held_locks[number].instance.name) for number in range(depth))
