# SPDX-License-Identifier: GPL-2.0-or-later
"""When the guest's kernel has finished with a PCI function that was plugged: a driver is bound, or none wants it.

That a driver is bound, the kernel says itself: the uevent `bind`, at the end of really_probe() (drivers/base/dd.c). Of
a device that every driver declines it says nothing. So two things are done that wait for its work to be over:

1. Writing 1 to `power` of the slot takes pci_lock_rescan_remove(), which the hot-plug worker holds from finding the
   device until its probe, where that is synchronous (drivers/pci/hotplug/acpiphp_glue.c, hotplug_event(); up to about
   Linux 6.12 all are). It does nothing else to a slot that is on (acpiphp_enable_slot()).
2. Loading a module waits for all asynchronous probes (kernel/module/main.c, do_init_module(), by way of
   async_synchronize_full()). Where none can be loaded, for all is built in, writing to `drivers_probe` probes the
   function now, unless that has been done (drivers/base/bus.c, drivers_probe_store()); a probe that comes later leaves
   a function with a driver alone (drivers/base/dd.c, __device_attach_async_helper()). Where no driver wants the
   function, writing to `power/control` what it says already takes the device's lock (drivers/base/power/sysfs.c,
   control_store()), which a probe holds while it runs: that costs a tenth.

What these answer does not matter: they only take their time. A kernel that probes a function asynchronously for a
driver that no alias leads to, such as one that was given its ID by hand (`new_id`), leaves a gap: a probe that has not
begun when the lock is free is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from harness.deadline import Deadline
from harness.guest import agent
from harness.guest.agent import Agent
from harness.guest.guest import Guest
from harness.guest.pci import Bdf, Function
from harness.guest.uevents import Uevent, Uevents

_SLOTS = "/sys/bus/pci/slots"
_DRIVERS_PROBE = "/sys/bus/pci/drivers_probe"
_DRIVERS_AUTOPROBE = "/sys/bus/pci/drivers_autoprobe"
_RELEASE = "/proc/sys/kernel/osrelease"
_ALIASES = "/etc/iov-harness/pci-aliases"
"""What the drivers of this guest's kernel want, built in or not (harness/provision/initramfs.py)."""
_TEXT_LIMIT = 1 << 20
_HARMLESS_MODULES = ("pci-stub", "pci-pf-stub")
"""Modules without dependencies that do nothing when they are loaded; one of them is not in use."""


def is_seen(guest: Guest) -> bool:
    """Tell whether the kernel would see a function that is plugged: only then it has slots for them."""
    return bool(guest.agent.call(agent.names(_SLOTS)).data)


def wait_finished(guest: Guest, uevents: Uevents, bdf: Bdf, deadline: Deadline) -> None:
    """Wait until the kernel has found a function, and bound a driver to it or found none.

    `uevents` has listened since before it was plugged. Raises `DeadlineExpired`, or what the guest does wrong.
    """

    def bound(seen: Iterable[Uevent]) -> bool:
        return any(_is(event, "bind", bdf) for event in seen)

    uevents.wait(lambda seen: any(_is(event, "add", bdf) for event in seen), deadline)
    _join_hotplug(guest.agent, bdf, deadline)
    if bound(uevents.seen()):
        return
    function = Function(guest.agent, bdf)
    modalias = _text(guest.agent, f"{function.path}/modalias", deadline) or ""
    if not _is_wanted(modalias, _text(guest.agent, _ALIASES, deadline)):
        _join_probe(guest.agent, function, deadline)
        return
    release = _text(guest.agent, _RELEASE, deadline) or ""
    _join_probes(guest.agent, bdf, release, deadline)
    if not bound(uevents.seen()):
        # As init does at boot; modprobe returns when the driver has probed it.
        guest.run(["modprobe", "-b", "-q", modalias], timeout=max(0.1, deadline.remaining()))


def _is(event: Uevent, action: str, bdf: Bdf) -> bool:
    fields = event.fields
    return event.action == action and fields.get("SUBSYSTEM") == "pci" and fields.get("PCI_SLOT_NAME") == str(bdf)


def _join_hotplug(on: Agent, bdf: Bdf, deadline: Deadline) -> None:
    names = on.call(agent.names(_SLOTS)).value().decode("utf-8", errors="replace").split("\0")
    addresses = on.batch([agent.read(f"{_SLOTS}/{name}/address") for name in names])
    for name, address in zip(names, addresses, strict=True):
        if address.data.strip() == str(bdf).partition(".")[0].encode():
            on.call(agent.write(f"{_SLOTS}/{name}/power", b"1"), timeout=deadline.remaining())


def _is_wanted(modalias: str, aliases: str | None) -> bool:
    """Tell whether a driver may want a function: any of the guest's own, or nobody knows which there are."""
    return aliases is None or any(fnmatchcase(modalias, pattern) for pattern in aliases.splitlines())


def _join_probes(on: Agent, bdf: Bdf, release: str, deadline: Deadline) -> None:
    for module in _HARMLESS_MODULES:
        loaded = on.call(agent.insert(f"/lib/modules/{release}/{module}.ko"), timeout=deadline.remaining())
        if loaded.errno == 0:
            on.call(agent.remove(module.replace("-", "_")))
            return
    if _text(on, _DRIVERS_AUTOPROBE, deadline) != "0":  # or nothing is to be probed
        on.call(agent.write(_DRIVERS_PROBE, str(bdf).encode()), timeout=deadline.remaining())


def _join_probe(on: Agent, function: Function, deadline: Deadline) -> None:
    control = f"{function.path}/power/control"
    on.call(agent.write(control, on.call(agent.read(control)).data), timeout=deadline.remaining())


def _text(on: Agent, path: str, deadline: Deadline) -> str | None:
    """Read a text file; None for one that is not there."""
    found = b""
    while len(found) < _TEXT_LIMIT:
        answer = on.call(agent.read(path, len(found)), timeout=max(0.1, deadline.remaining()))
        if answer.errno:
            return None
        found += answer.data
        if len(answer.data) < agent.READ_LIMIT:
            break
    return found.decode("utf-8", errors="replace").rstrip("\n")
