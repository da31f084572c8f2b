# SPDX-License-Identifier: GPL-2.0-or-later
"""Cells on a Dask cluster: this machine's own, or one of many machines.

A worker says how many guests it holds at once (`dask worker --resources guests=4`), and each cell takes one of them.
What a worker had in hand when it was lost, another does again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import CouldNotRun, HarnessError, UsageError
from harness.validate import cells
from harness.validate.cells import Cell, Ran

if TYPE_CHECKING:
    from distributed import Client, Future, SpecCluster

_GUESTS = "guests"
_CONNECT_TIMEOUT = 20.0
"""Seconds for a scheduler to answer."""
_LOST = 3
"""How often a cell may take a worker with it before it is given up."""


@contextmanager
def joined(scheduler: str | None, guests: int) -> Iterator[Client]:
    """Give a cluster: that of a scheduler, or one within this process with room for so many guests at once.

    Raises `UsageError` for a scheduler that is not there, or that has no worker for guests.
    """
    import dask

    dask.config.set({"logging": {"distributed": "critical"}})  # read once, when distributed is imported
    from distributed import Client

    with dask.config.set({"distributed.scheduler.allowed-failures": _LOST}):
        if scheduler is None:
            with _of_its_own(guests) as local, Client(local) as client, cells.RUNNING.waited_for():
                yield client
            return
        try:
            client = Client(scheduler, timeout=_CONNECT_TIMEOUT)
        except (OSError, ValueError) as error:
            raise UsageError(f"--scheduler {scheduler}: no Dask scheduler answers there: {error}") from error
        with client:
            if room(client) == 0:
                lacking = "none of its workers holds guests"
                raise UsageError(f"--scheduler {scheduler}: {lacking}; start them with --resources {_GUESTS}=N")
            yield client


def _of_its_own(guests: int) -> SpecCluster:
    """Make a cluster of threads, which wait for the processes that they start, and which nobody can reach.

    Dask trusts whoever comes to its ports, and opens one for its web pages on all interfaces whatever it is told
    (distributed/node.py, `start_http_server`).
    """
    from distributed import Scheduler, SpecCluster, Worker
    from distributed.http.routing import RoutingApplication
    from tornado.httpserver import HTTPServer

    class Unreachable:
        def start_http_server(self, routes: Any, *_: Any, **__: Any) -> None:
            self.http_application = RoutingApplication(routes)
            self.http_server = HTTPServer(self.http_application)

    class LocalScheduler(Unreachable, Scheduler):
        pass

    class LocalWorker(Unreachable, Worker):
        pass

    place = {"protocol": "inproc://", "dashboard": False}
    worker = {"nthreads": guests, "resources": {_GUESTS: guests}, "memory_limit": 0, **place}
    return SpecCluster(
        scheduler={"cls": LocalScheduler, "options": place}, workers={0: {"cls": LocalWorker, "options": worker}},
        silence_logs=logging.CRITICAL,
    )  # fmt: skip


def room(client: Client) -> int:
    """Give how many guests the cluster holds at once."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return int(sum(one.get("resources", {}).get(_GUESTS, 0) for one in workers))


def run_all(
    client: Client, wanted: Sequence[Cell], kernel: Callable[[str], bytes] | None
) -> Iterator[tuple[Cell, Ran | HarnessError]]:
    """Run cells as there is room, and give each as it ends, or why it has no result.

    `kernel` packs one for workers on other machines: it is sent to one of them, and from there to those that need it.
    Where the only worker that had it is lost, Dask gives up what was waiting for it, and it is sent again.
    """
    from distributed import as_completed

    tried: Counter[str] = Counter()
    sent: dict[str, Future[Any]] = {}

    def submit(cell: Cell) -> Future[Any]:
        tried[cell.key] += 1
        if kernel is not None and cell.kernel not in sent:
            sent[cell.kernel] = client.scatter(kernel(cell.kernel), hash=False)
        key = f"cell-{cell.key}-{tried[cell.key]}"
        return client.submit(
            cells.run, cell, sent.get(cell.kernel), key=key, resources={_GUESTS: 1}, pure=False
        )  # fmt: skip

    futures = {submit(cell): cell for cell in wanted}
    ended = as_completed(list(futures))
    for future in ended:
        cell = futures.pop(future)
        if future.cancelled() and tried[cell.key] <= _LOST:
            sent.pop(cell.kernel, None)
            again = submit(cell)
            futures[again] = cell
            ended.add(again)
        else:
            yield cell, _told(future)


def _told(future: Future[Any]) -> Ran | HarnessError:
    if future.cancelled():
        return CouldNotRun("the workers that had it were lost, one after another")
    error = future.exception()
    if error is None:
        ran: Ran = future.result()
        future.release()
        return ran
    return error if isinstance(error, HarnessError) else CouldNotRun(f"no worker could run it: {error or type(error)}")
