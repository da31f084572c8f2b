# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for a guest's kernel to finish with a device that was plugged, whose probe ends where a test says."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.guest import uevents as uevents_module
from harness.guest.agent import READ_LIMIT, Agent, Answer, Call
from harness.guest.arrival import wait_finished
from harness.guest.console import Console
from harness.guest.guest import Guest
from harness.guest.pci import Bdf
from harness.guest.ssh import COMMAND_TIMEOUT, Completed, Session
from harness.guest.uevents import Uevents
from harness.qemu.loop import the_loop

BDF = Bdf.parse("0000:01:00.0")
OTHER = "0000:02:00.0"
SLOTS = "/sys/bus/pci/slots"
MODULES = "/lib/modules/6.12.1"

POWER = f"write {SLOTS}/1/power 1"
LOAD = f"insert {MODULES}/pci-stub.ko"
UNLOAD = "remove pci_stub"
MODALIAS = "pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00"
MODPROBE = f"modprobe -b -q {MODALIAS}"
DRIVERS_PROBE = "write /sys/bus/pci/drivers_probe 0000:01:00.0"
CONTROL = f"write /sys/bus/pci/devices/{BDF}/power/control auto\n"
ALIASES = "/etc/iov-harness/pci-aliases"
ALL = [POWER, LOAD, UNLOAD, MODPROBE]
NOBODYS = [POWER, CONTROL]


def uevent(action: str, slot: str = str(BDF), subsystem: str = "pci") -> bytes:
    return f"{action}@/devices/x\0ACTION={action}\0SUBSYSTEM={subsystem}\0PCI_SLOT_NAME={slot}\0".encode()


class Kernel(Agent):
    """Answers for a guest whose driver binds once `binds` was done; `done` are the calls that change anything."""

    def __init__(self) -> None:
        self.binds = ""
        self.events: list[bytes] = []
        self.done: list[str] = []
        self.refused: dict[str, int] = {}
        self.files = {
            "/proc/sys/kernel/osrelease": b"6.12.1\n",
            f"/sys/bus/pci/devices/{BDF}/modalias": f"{MODALIAS}\n".encode(),
            f"/sys/bus/pci/devices/{BDF}/power/control": b"auto\n",
            ALIASES: b"pci:v00001AF4d*sv*sd*bc*sc*i*\npci:v00008086d000010C9sv*sd*bc*sc*i*\n",
        }
        self.slots(**{"1": "0000:01:00", "2": "0000:02:00"})

    def slots(self, **addresses: str) -> None:
        self.files[SLOTS] = "\0".join(addresses).encode()
        self.files.update({f"{SLOTS}/{name}/address": f"{where}\n".encode() for name, where in addresses.items()})

    def batch(self, calls: Sequence[Call], *, timeout: float = COMMAND_TIMEOUT) -> list[Answer]:
        assert timeout > 0
        return [self.answer(call) for call in calls]

    def answer(self, call: Call) -> Answer:
        match call.name:
            case "listen":
                return Answer(call, 0, b"")
            case "uevents":
                events, self.events = self.events, []
                return Answer(call, 0, b"\n".join(events))
            case "read" | "list":
                data = self.files.get(call.path)
                offset, length = map(int, call.words or (0, READ_LIMIT))
                return Answer(call, errno.ENOENT if data is None else 0, (data or b"")[offset : offset + length])
            case "write":
                return Answer(call, self.do(f"write {call.path} {bytes.fromhex(call.words[1]).decode()}"), b"")
            case _:
                words = [call.name, call.path, *(bytes.fromhex(word).decode() for word in call.words)]
                return Answer(call, self.do(" ".join(words)), b"")

    def do(self, what: str) -> int:
        self.done.append(what)
        if what == self.binds:
            self.events.append(uevent("bind"))
        return self.refused.get(what, 0)


class Shell(Session):
    """Runs modprobe, which fails, as it does for a device that nobody knows."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.timeouts: list[float] = []

    def run(self, command: str | Sequence[str], *, timeout: float = COMMAND_TIMEOUT, **_: Any) -> Completed:
        self.timeouts.append(timeout)
        self.kernel.do(" ".join(command))
        return Completed(" ".join(command), 1, "", "")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Give a guest's kernel, which everything asks."""
    made = Kernel()
    monkeypatch.setattr(uevents_module, "Agent", lambda _: made)
    return made


@pytest.fixture
def guest(kernel: Kernel, tmp_path: Path) -> Iterator[Guest]:
    """Give a guest with that kernel."""
    console = Console(the_loop(), tmp_path / "console.log")
    made = Guest(Shell(kernel), console)
    made.agent = kernel
    yield made
    console.close()


def finish(guest: Guest, bdf: Bdf = BDF, seconds: float = 20) -> None:
    wait_finished(guest, Uevents(guest.session), bdf, Deadline(seconds, "plugging x"))


@pytest.mark.parametrize(
    ("binds", "done"),
    [("at once", [POWER]), (POWER, [POWER]), (LOAD, [POWER, LOAD, UNLOAD]), (MODPROBE, ALL), ("never", ALL)],
    ids=["at once", "synchronously", "asynchronously", "driver not loaded", "declined"],
)
def test_no_more_is_done_than_until_a_driver_is_bound(
    kernel: Kernel, guest: Guest, binds: str, done: list[str]
) -> None:
    kernel.binds = binds
    kernel.events = [uevent("add"), *([uevent("bind")] if binds == "at once" else [])]
    finish(guest)
    assert kernel.done == done


def test_loading_a_driver_has_what_is_left_of_the_time(kernel: Kernel, guest: Guest) -> None:
    kernel.events = [uevent("add")]
    finish(guest, seconds=1000)
    assert isinstance(guest.session, Shell)
    (timeout,) = guest.session.timeouts
    assert 900 < timeout <= 1000


def test_a_device_that_never_comes_is_given_up_in_time_and_nothing_was_touched(kernel: Kernel, guest: Guest) -> None:
    with pytest.raises(DeadlineExpired, match=r"^plugging x: nothing within 0\.05 s$"):
        finish(guest, seconds=0.05)
    assert kernel.done == []


@pytest.mark.parametrize(
    "event",
    [
        uevent("bind", OTHER),
        uevent("bind", f"{BDF}0"),
        uevent("bind", subsystem="net"),
        uevent("unbind"),
        uevent("add"),
    ],
    ids=["another function", "a longer address", "another subsystem", "unbind", "add"],
)
def test_only_the_functions_own_bind_tells_that_a_driver_is_bound(kernel: Kernel, guest: Guest, event: bytes) -> None:
    kernel.events = [uevent("add"), event]
    finish(guest)
    assert kernel.done == ALL


@pytest.mark.parametrize(
    "event",
    [uevent("add", OTHER), uevent("add", subsystem="net"), uevent("bind")],
    ids=["another function", "another subsystem", "bind"],
)
def test_only_the_functions_own_add_tells_that_it_is_there(kernel: Kernel, guest: Guest, event: bytes) -> None:
    kernel.events = [event]
    with pytest.raises(DeadlineExpired):
        finish(guest, seconds=0.05)


def test_garbage_among_the_uevents_is_passed_over(kernel: Kernel, guest: Guest) -> None:
    garbage = [b"\xff\xfe", b"@", b"bind", b"bind@", b"bind@/x\0SUBSYSTEM", b"\0\0=", b"=\0=\0", b"x" * 100_000]
    kernel.events = [*garbage, uevent("add"), *garbage, uevent("bind"), *garbage]
    finish(guest)
    assert kernel.done == [POWER]


def test_the_slot_of_a_further_function_is_that_of_its_device(kernel: Kernel, guest: Guest) -> None:
    bdf = Bdf.parse("0000:01:00.3")
    kernel.events = [uevent("add", str(bdf)), uevent("bind", str(bdf))]
    finish(guest, bdf)
    assert kernel.done == [POWER]


@pytest.mark.parametrize("slots", [{}, {"2": "0000:02:00", "9": "0000:01:01"}], ids=["none", "others"])
def test_without_a_slot_of_its_own_the_hotplug_worker_is_not_waited_for(
    kernel: Kernel, guest: Guest, slots: dict[str, str]
) -> None:
    kernel.slots(**slots)
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == ALL[1:]


def test_every_slot_at_its_address_is_waited_for(kernel: Kernel, guest: Guest) -> None:
    kernel.slots(**{"1": "0000:01:00", "2": "0000:02:00", "1-1": "0000:01:00"})
    kernel.events = [uevent("add"), uevent("bind")]
    finish(guest)
    assert kernel.done == [POWER, f"write {SLOTS}/1-1/power 1"]


def test_a_slot_that_cannot_be_read_is_passed_over(kernel: Kernel, guest: Guest) -> None:
    del kernel.files[f"{SLOTS}/2/address"]
    kernel.events = [uevent("add"), uevent("bind")]
    finish(guest)
    assert kernel.done == [POWER]


@pytest.mark.parametrize("barrier", ["POWER", "remove pci_stub"])
def test_a_barrier_that_refuses_is_no_fault_of_the_kernels(kernel: Kernel, guest: Guest, barrier: str) -> None:
    kernel.refused[POWER if barrier == "POWER" else barrier] = errno.ENODEV
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done[-1] == MODPROBE


def test_a_module_that_is_in_use_gives_way_to_the_other(kernel: Kernel, guest: Guest) -> None:
    kernel.refused[LOAD] = errno.EEXIST
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == [POWER, LOAD, f"insert {MODULES}/pci-pf-stub.ko", "remove pci_pf_stub", MODPROBE]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSYS, errno.EEXIST], ids=errno.errorcode.get)
def test_a_kernel_that_takes_neither_module_is_not_stopped_by_it(kernel: Kernel, guest: Guest, number: int) -> None:
    both = [LOAD, f"insert {MODULES}/pci-pf-stub.ko"]
    kernel.refused.update(dict.fromkeys(both, number))
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == [POWER, *both, DRIVERS_PROBE, MODPROBE]


def test_a_device_that_no_driver_wants_costs_neither_modprobe_nor_a_module(kernel: Kernel, guest: Guest) -> None:
    kernel.files[ALIASES] = b"pci:v00008086d0000FFFFsv*sd*bc*sc*i*\n"
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == NOBODYS


def test_where_nobody_knows_what_drivers_there_are_all_is_waited_for(kernel: Kernel, guest: Guest) -> None:
    del kernel.files[ALIASES]
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == ALL


def test_a_device_that_says_nothing_of_itself_is_wanted_by_nobody(kernel: Kernel, guest: Guest) -> None:
    del kernel.files[f"/sys/bus/pci/devices/{BDF}/modalias"]
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == NOBODYS


def test_an_alias_behind_a_page_of_others_counts_too(kernel: Kernel, guest: Guest) -> None:
    kernel.files[ALIASES] = b"pci:v0000FFFF*\n" * (READ_LIMIT // 8) + kernel.files[ALIASES]
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == ALL


def test_a_guest_that_lists_aliases_without_end_is_not_listened_to_for_ever(kernel: Kernel, guest: Guest) -> None:
    kernel.files[ALIASES] = b"pci:v0000FFFF*\n" * (1 << 18)
    kernel.events = [uevent("add")]
    finish(guest)
    assert kernel.done == NOBODYS
