# SPDX-License-Identifier: GPL-2.0-or-later
"""Cells on a Dask cluster: this machine's own, or one of many machines.

A worker says how many guests it holds at once (`dask worker --resources guests=4`), and each cell takes one of them.
What a worker had in hand when it was lost, another does again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import CouldNotRun, HarnessError, UsageError
from harness.validate import cells
from harness.validate.cells import Cell, Ran

if TYPE_CHECKING:
    from distributed import Client

_GUESTS = "guests"
_CONNECT_TIMEOUT = 20.0
"""Seconds for a scheduler to answer."""
_LOST = 3
"""How often a cell may take a worker with it before it is given up."""


@contextmanager
def joined(scheduler: str | None, guests: int) -> Iterator[Client]:
    """Give a cluster: that of a scheduler, or one in this process with room for so many guests at once.

    The latter opens no socket: Dask trusts whoever reaches its ports. Raises `UsageError` for a scheduler that is not
    there, or that has no worker for guests.
    """
    import dask
    from distributed import Client, LocalCluster

    quiet = {"distributed.scheduler.allowed-failures": _LOST, "distributed.admin.log-format": "%(message)s"}
    with dask.config.set(quiet):
        if scheduler is None:
            with (
                LocalCluster(
                    n_workers=1, threads_per_worker=guests, processes=False, resources={_GUESTS: guests},
                    dashboard_address=None, silence_logs=50,
                ) as local,
                Client(local) as client,
            ):  # fmt: skip
                yield client
            return
        try:
            client = Client(scheduler, timeout=_CONNECT_TIMEOUT)
        except (OSError, ValueError) as error:
            raise UsageError(f"--scheduler {scheduler}: no Dask scheduler answers there: {error}") from error
        with client:
            _check(client, scheduler)
            yield client


def room(client: Client) -> int:
    """Give how many guests the cluster holds at once."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return int(sum(one.get("resources", {}).get(_GUESTS, 0) for one in workers))


def run_all(
    client: Client, wanted: Iterable[Cell], kernel: Callable[[str], bytes] | None
) -> Iterator[tuple[Cell, Ran | HarnessError]]:
    """Run cells as there is room, and give each as it ends, or why it has no result.

    `kernel` packs one for workers on other machines; each goes to a worker once.
    """
    from distributed import as_completed

    sent = (
        {}
        if kernel is None
        else {name: client.scatter(kernel(name)) for name in dict.fromkeys(one.kernel for one in wanted)}
    )
    futures = {
        client.submit(
            cells.run, one, sent.get(one.kernel), key=f"cell-{one.key}", resources={_GUESTS: 1}, pure=False
        ): one
        for one in wanted
    }  # fmt: skip
    for future in as_completed(futures):
        error = future.exception()
        if error is None:
            yield futures[future], future.result()
        elif isinstance(error, HarnessError):
            yield futures[future], error
        else:
            yield futures[future], CouldNotRun(f"no worker could run it: {error or type(error).__name__}")
        future.release()


def _check(client: Client, scheduler: str) -> None:
    if room(client) == 0:
        raise UsageError(
            f"--scheduler {scheduler}: none of its workers holds guests; start them with --resources {_GUESTS}=N"
        )
