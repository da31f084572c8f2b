# SPDX-License-Identifier: GPL-2.0-or-later
"""SET_IRQS: which vector raises which event, while it is masked and when it is let go."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_device import MSIX, MSIX_ENABLE, MSIX_MASK_ALL, Toy
from vfio_client import BOOL, CONFIG, EVENTFD, MASK, NONE, TRIGGER, UNMASK, Client, Event, Lent, Serving

from harness.device.capabilities import express_endpoint
from harness.device.config_space import Identity
from harness.device.device import Device
from harness.device.vfio_user.server import Server


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """Make an event for each vector of the toy."""
    made = [Event() for _ in range(4)]
    yield made
    for event in made:
        os.close(event.fd)


@pytest.fixture
def wired(client: Client, events: list[Event]) -> Client:
    """Give each vector its event."""
    assert client.set_irqs(EVENTFD | TRIGGER, 0, 4, fds=[event.fd for event in events]) == 0
    return client


def raised(events: list[Event]) -> list[int]:
    """Give the vectors that are raised, and lower them."""
    return [vector for vector, event in enumerate(events) if event.is_raised() and event.wait()]


@pytest.mark.usefixtures("wired")
def test_each_vector_raises_its_own_event(toy: Toy, events: list[Event]) -> None:
    toy.interrupt(2)
    assert events[2].wait() == 1
    toy.interrupt(0)
    toy.interrupt(0)
    assert events[0].wait() == 2
    assert raised(events) == []
    assert toy.pending() == 0


def test_vectors_are_given_events_one_after_another_or_several_at_once(
    client: Client, toy: Toy, events: list[Event]
) -> None:
    assert client.set_irqs(EVENTFD | TRIGGER, 1, 2, fds=[events[1].fd, events[2].fd]) == 0
    assert client.set_irqs(EVENTFD | TRIGGER, 3, 1, fds=[events[3].fd]) == 0
    for vector in range(4):
        toy.interrupt(vector)
    assert raised(events) == [1, 2, 3]
    assert toy.pending() == 1


def test_eight_events_come_with_one_message(serving: Serving) -> None:
    toy = Toy(vectors=20)
    toy.config["msix_control"] |= MSIX_ENABLE
    toy.config["command"] = 0x0004
    events = [Event() for _ in range(20)]
    with Client(serving(toy).path) as client:
        for first in (0, 8, 16):
            fds = [event.fd for event in events[first : first + 8]]
            assert client.set_irqs(EVENTFD | TRIGGER, first, len(fds), fds=fds) == 0
        for vector in (0, 7, 8, 19):
            toy.interrupt(vector)
        assert raised(events) == [0, 7, 8, 19]
    for event in events:
        os.close(event.fd)


def test_a_new_event_takes_the_place_of_the_old_which_is_closed(client: Client, toy: Toy, events: list[Event]) -> None:
    with Lent() as old:
        assert client.set_irqs(EVENTFD | TRIGGER, 1, 1, fds=[old.fd]) == 0
        assert client.set_irqs(EVENTFD | TRIGGER, 1, 1, fds=[events[1].fd]) == 0
        assert old.is_closed()
    toy.interrupt(1)
    assert raised(events) == [1]


def test_events_are_taken_away_where_none_come_along(wired: Client, toy: Toy, events: list[Event]) -> None:
    assert wired.set_irqs(EVENTFD | TRIGGER, 1, 2) == 0
    for vector in range(4):
        toy.interrupt(vector)
    assert raised(events) == [0, 3]
    assert toy.pending() == 0b0110


def test_an_interrupt_without_an_event_is_pending_until_there_is_one(
    client: Client, toy: Toy, events: list[Event]
) -> None:
    toy.interrupt(1)
    assert toy.pending() == 2
    assert client.set_irqs(EVENTFD | TRIGGER, 1, 1, fds=[events[1].fd]) == 0
    assert events[1].wait() == 1
    assert toy.pending() == 0


def test_all_events_are_taken_away_and_closed_at_once(client: Client, toy: Toy) -> None:
    with Lent() as lent:
        assert client.set_irqs(EVENTFD | TRIGGER, 0, 2, fds=[lent.fd, lent.fd]) == 0
        assert client.set_irqs(MASK | NONE, 3, 1) == 0
        assert client.set_irqs(NONE | TRIGGER, 0, 0) == 0
        assert lent.is_closed()
    toy.interrupt(0)
    assert toy.pending() == 1
    with Event() as event:
        assert client.set_irqs(EVENTFD | TRIGGER, 0, 1, fds=[event.fd]) == 0
        assert event.wait() == 1
    with Event() as event:
        assert client.set_irqs(EVENTFD | TRIGGER, 3, 1, fds=[event.fd]) == 0
        toy.interrupt(3)
        assert event.wait() == 1, "it is masked still"


def test_a_masked_vector_is_pending_until_it_is_unmasked(wired: Client, toy: Toy, events: list[Event]) -> None:
    assert wired.set_irqs(MASK | NONE, 1, 2) == 0
    for vector in range(4):
        toy.interrupt(vector)
    assert raised(events) == [0, 3]
    assert toy.pending() == 0b0110
    assert wired.set_irqs(UNMASK | NONE, 2, 1) == 0
    assert events[2].wait() == 1
    assert (raised(events), toy.pending()) == ([], 0b0010)
    assert wired.set_irqs(UNMASK | NONE, 1, 1) == 0
    assert events[1].wait() == 1


def test_single_vectors_of_a_row_are_masked_and_unmasked(wired: Client, toy: Toy, events: list[Event]) -> None:
    assert wired.set_irqs(MASK | BOOL, 0, 4, data=b"\1\0\2\0") == 0
    for vector in range(4):
        toy.interrupt(vector)
    assert raised(events) == [1, 3]
    assert wired.set_irqs(UNMASK | BOOL, 1, 2, data=b"\1\1") == 0
    assert raised(events) == [2]
    assert toy.pending() == 1


def test_the_guests_mask_of_all_vectors_holds_them_back(wired: Client, toy: Toy, events: list[Event]) -> None:
    wired.write(CONFIG, MSIX + 2, (MSIX_ENABLE | MSIX_MASK_ALL).to_bytes(2, "little"))
    toy.interrupt(3)
    assert (raised(events), toy.pending()) == ([], 8)
    wired.write(CONFIG, MSIX + 2, MSIX_ENABLE.to_bytes(2, "little"))
    assert events[3].wait() == 1
    assert toy.pending() == 0


def test_a_client_can_raise_vectors_itself(wired: Client, toy: Toy, events: list[Event]) -> None:
    assert wired.set_irqs(TRIGGER | NONE, 1, 2) == 0
    assert raised(events) == [1, 2]
    assert wired.set_irqs(TRIGGER | BOOL, 0, 4, data=b"\1\0\0\1") == 0
    assert raised(events) == [0, 3]
    assert toy.pending() == 0


def test_a_client_raises_no_vector_that_is_masked_or_has_no_event(client: Client, events: list[Event]) -> None:
    assert client.set_irqs(EVENTFD | TRIGGER, 0, 1, fds=[events[0].fd]) == 0
    assert client.set_irqs(MASK | NONE, 0, 1) == 0
    assert client.set_irqs(TRIGGER | NONE, 0, 2) == 0
    assert raised(events) == []


@pytest.mark.parametrize(
    ("flags", "start", "count", "data", "kind"),
    [
        (0, 0, 1, b"", 2), (NONE, 0, 1, b"", 2), (TRIGGER, 0, 1, b"", 2), (NONE | BOOL | TRIGGER, 0, 1, b"\1", 2),
        (NONE | MASK | UNMASK, 0, 1, b"", 2), (NONE | TRIGGER | 64, 0, 1, b"", 2), (0xFFFFFFFF, 0, 1, b"", 2),
        (NONE | TRIGGER, 0, 5, b"", 2), (NONE | TRIGGER, 4, 1, b"", 2), (NONE | TRIGGER, 0xFFFFFFFF, 1, b"", 2),
        (NONE | TRIGGER, 5, 0, b"", 2), (NONE | TRIGGER, 0, 0xFFFFFFFF, b"", 2), (BOOL | MASK, 0, 4, b"\1\1\1", 2),
        (EVENTFD | MASK, 0, 1, b"", 2), (EVENTFD | UNMASK, 0, 1, b"", 2),
        *((NONE | TRIGGER, 0, 0, b"", kind) for kind in (0, 1, 3, 4, 5, 0xFFFFFFFF)),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    wired: Client, toy: Toy, events: list[Event], flags: int, start: int, count: int, data: bytes, kind: int
) -> None:
    assert wired.set_irqs(flags, start, count, data=data, kind=kind) == errno.EINVAL
    for vector in range(4):
        toy.interrupt(vector)
    assert raised(events) == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "fds"), [(1, 2), (3, 2), (0, 1), (4, 1)])
def test_events_in_another_number_than_vectors_are_refused_and_closed(
    client: Client, toy: Toy, count: int, fds: int
) -> None:
    with Lent() as lent:
        assert client.set_irqs(EVENTFD | TRIGGER, 0, count, fds=[lent.fd] * fds) == errno.EINVAL
        assert lent.is_closed()
    toy.interrupt(0)
    assert toy.pending() == 1


@pytest.mark.parametrize("flags", [NONE | TRIGGER, NONE | MASK, BOOL | UNMASK])
def test_events_that_come_with_what_takes_none_are_closed(client: Client, flags: int) -> None:
    with Lent() as lent:
        assert client.set_irqs(flags, 0, 1, data=b"\1", fds=[lent.fd]) == 0
        assert lent.is_closed()


def test_a_descriptor_that_cannot_be_written_is_refused_and_all_of_them_closed(
    client: Client, toy: Toy, tmp_path: Path
) -> None:
    path = os.open(tmp_path, os.O_PATH)
    with Lent() as lent:
        assert client.set_irqs(EVENTFD | TRIGGER, 0, 2, fds=[lent.fd, path]) == errno.EBADF
        assert lent.is_closed()
    os.close(path)
    assert toy.broken is None
    toy.interrupt(0)
    assert toy.pending() == 1


def test_an_event_that_nobody_can_be_told_by_leaves_the_vector_pending(client: Client, toy: Toy) -> None:
    reader, writer = os.pipe()
    assert client.set_irqs(EVENTFD | TRIGGER, 0, 2, fds=[writer, reader]) == 0
    os.close(reader)
    os.close(writer)
    toy.interrupt(1)
    assert toy.pending() == 2


def test_an_event_that_is_full_counts_as_raised_and_holds_up_nobody(client: Client, toy: Toy) -> None:
    with Event() as event:
        os.eventfd_write(event.fd, (1 << 64) - 2)
        assert client.set_irqs(EVENTFD | TRIGGER, 0, 1, fds=[event.fd]) == 0
        toy.interrupt(0)
        assert toy.pending() == 0
        assert client.read(CONFIG, 0, 2) == b"\xf4\x1a"


def test_events_are_closed_with_the_connection(server: Server, toy: Toy) -> None:
    with Lent() as lent:
        with Client(server.path) as client:
            assert client.set_irqs(EVENTFD | TRIGGER, 0, 1, fds=[lent.fd]) == 0
        assert lent.is_closed()
    with Client(server.path):
        toy.interrupt(0)
        assert toy.pending() == 1


def test_a_device_without_msix_has_no_vectors_to_set(serving: Serving) -> None:
    with Client(serving(Device(Identity(1, 1), [express_endpoint()])).path) as client:
        assert client.set_irqs(NONE | TRIGGER, 0, 0) == 0
        assert client.set_irqs(EVENTFD | TRIGGER, 0, 1) == errno.EINVAL
