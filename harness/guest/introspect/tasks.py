# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks that the kernel does not let go on (state D): where they wait, for which lock, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from drgn import FaultError, Object, ObjectAbsentError, Program, StackFrame
from drgn.helpers.linux.locking import mutex_owner, rwsem_owner
from drgn.helpers.linux.sched import task_state_to_char

from harness.guest.introspect.memory import array_text, bounded, entries, symbol, text
from harness.text import printable

_FRAMES = 64
"""Frames of one stack: the deepest that matter here have some twenty."""
_KERNEL_HALF = 1 << 63
"""From here on addresses are the kernel's, on all 64-bit architectures that have a say here."""
_MAX_LOCK_DEPTH = 48
"""Locks that lockdep follows for one task (include/linux/sched.h)."""
_OWNERS = {"struct mutex *": mutex_owner, "struct rw_semaphore *": rwsem_owner}
_LOCK_VARIABLES = ("lock", "sem")
"""What the functions call the lock for which they wait: __mutex_lock_common() (kernel/locking/mutex.c) and
rwsem_down_write_slowpath() (rwsem.c) with their kin.
"""


@dataclass(frozen=True)
class Task:
    """A task in uninterruptible sleep, innermost frame first.

    `waits_for` is the mutex or semaphore for which it waits, None where it waits for something else; `held_by` is the
    process id of who has it. Where the kernel has lockdep, locks go by the names of their classes, and `held_locks` are
    all that the task holds (lockdep counts the one that it waits for). Elsewhere they go by their symbol or else their
    address, and `held_locks` are those for which other blocked tasks wait.
    """

    pid: int
    comm: str
    stack: tuple[str, ...]
    waits_for: str | None
    held_by: int | None
    held_locks: tuple[str, ...]

    def __str__(self) -> str:
        waits = f", waits for {self.waits_for}" if self.waits_for else ""
        held_by = f", which {self.held_by} has" if self.held_by is not None else ""
        holds = f", holds {', '.join(self.held_locks)}" if self.held_locks else ""
        return "\n  ".join([f"{self.comm} ({self.pid}){waits}{held_by}{holds}", *self.stack])


def blocked_tasks(program: Program) -> list[Task]:
    """Read all tasks in state D, in the order of their process ids; raises as `functions`."""
    blocked = [_task(program, one) for one in _tasks(program) if task_state_to_char(one) == "D"]
    if not program.type("struct task_struct").has_member("held_locks"):
        blocked = [replace(task, held_locks=_awaited_of(task, blocked)) for task in blocked]
    return sorted(blocked, key=lambda task: task.pid)


def _tasks(program: Program) -> Iterator[Object]:
    """Give the `struct task_struct *` of every thread but the idle ones."""

    def threads() -> Iterator[Object]:
        for leader in entries(program["init_task"].tasks, "struct task_struct", "tasks", "processes"):
            yield from entries(leader.signal.thread_head, "struct task_struct", "thread_node", "threads")

    return bounded(threads(), "tasks")


def _task(program: Program, task: Object) -> Task:
    frames = [one for one in islice(program.stack_trace(task), _FRAMES) if one.pc >= _KERNEL_HALF]
    lock = _awaited(frames)
    return Task(
        pid=task.pid.value_(),
        comm=array_text(task.comm.read_()),
        stack=tuple(printable(frame.name) for frame in frames),
        waits_for=None if lock is None else _name(lock),
        held_by=None if lock is None else _holder(lock),
        held_locks=_of_lockdep(task),
    )


def _awaited(frames: list[StackFrame]) -> Object | None:
    """Give the lock for which a task waits, from the variables of the functions in which it does so."""
    for frame in frames:
        for name in _LOCK_VARIABLES:
            with suppress(LookupError, ObjectAbsentError):  # no such variable, or in a register that is gone
                lock = frame[name]
                if lock.type_.type_name() in _OWNERS and lock:
                    return lock.read_()
    return None


def _name(lock: Object) -> str:
    """Give the name by which lockdep knows a lock, and without lockdep its symbol or address."""
    if lock.type_.type.has_member("dep_map"):
        with suppress(FaultError):
            return text(lock.dep_map.name)
    return symbol(lock.prog_, lock.value_())


def _holder(lock: Object) -> int | None:
    """Give the process id of the task that has a lock; None where nobody has it, or what seemed a lock is none."""
    with suppress(FaultError):
        owner = _OWNERS[lock.type_.type_name()](lock)
        return int(owner.pid.value_()) if owner else None
    return None


def _of_lockdep(task: Object) -> tuple[str, ...]:
    """Give the names of the locks that lockdep knows the task to hold; none without lockdep."""
    if not task.prog_.type("struct task_struct").has_member("held_locks"):
        return ()
    depth = min(max(task.lockdep_depth.value_(), 0), _MAX_LOCK_DEPTH)
    return tuple(text(task.held_locks[number].instance.name) for number in range(depth))


def _awaited_of(task: Task, others: list[Task]) -> tuple[str, ...]:
    """Give the locks that a task has and others wait for, each once."""
    return tuple(dict.fromkeys(one.waits_for for one in others if one.held_by == task.pid and one.waits_for))
