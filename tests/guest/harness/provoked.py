# SPDX-License-Identifier: GPL-2.0-or-later
"""Test cases that end badly on purpose, each in its own way. Run by test_outcomes.py, never collected by themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from errno import EBUSY
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.guest.agent import raises_errno
from harness.guest.guest import Guest
from harness.machine.machine import Machine
from harness.pytest_plugin.fixtures import Boot, LoadModule

pytestmark = [pytest.mark.machine("minimal"), pytest.mark.usefixtures("guest")]

SPLAT = "WARNING: CPU: 0 PID: 1 at drivers/pci/iov.c:1 sriov_enable+0x1/0x2"
"""The first line of a kernel warning; through /dev/kmsg it takes the way of a real one."""


def splat(guest: Guest) -> None:
    guest.write("/dev/kmsg", f"<4>{SPLAT}\n")


def panic(guest: Guest) -> None:
    guest.write("/proc/sysrq-trigger", "c")


def test_passes(guest: Guest) -> None:
    assert guest.read("/proc/sys/kernel/ostype") == "Linux\n"


def test_fails_by_assertion(guest: Guest) -> None:
    assert guest.read("/proc/sys/kernel/ostype") == "Hurd\n"


def test_fails_by_an_unexpected_errno(guest: Guest) -> None:
    guest.write("/sys/kernel/uevent_seqnum", "1")


def test_fails_by_another_errno_than_stated(guest: Guest) -> None:
    with raises_errno(EBUSY):
        guest.write("/nowhere", "1")


def test_fails_by_a_kernel_report(guest: Guest) -> None:
    splat(guest)


def test_fails_by_a_kernel_report_though_it_skips(guest: Guest) -> None:
    splat(guest)
    guest.drain()
    pytest.skip("nothing to see here")


@pytest.mark.expects_report("warn", match="sriov_enable")
def test_passes_with_a_declared_report(guest: Guest) -> None:
    splat(guest)


@pytest.mark.expects_report("warn")
def test_fails_without_its_declared_report(guest: Guest) -> None:
    guest.run("true", check=True)


@pytest.fixture
def splats_in_setup(guest: Guest) -> None:
    """Make the kernel warn, and then leave."""
    splat(guest)
    guest.drain()
    pytest.skip("nothing to see here")


@pytest.mark.usefixtures("splats_in_setup")
def test_fails_by_a_kernel_report_in_setup() -> None:
    raise AssertionError("never reached")


@pytest.fixture
def splats_in_teardown(guest: Guest) -> Iterator[None]:
    """Make the kernel warn when the test is over."""
    yield
    splat(guest)


@pytest.mark.usefixtures("splats_in_teardown")
def test_fails_by_a_kernel_report_in_teardown(guest: Guest) -> None:
    guest.run("true", check=True)


def test_fails_by_a_kernel_report_of_a_second_machine(boot: Boot) -> None:
    splat(boot("minimal", memory=256).guest)


def test_fails_by_a_panic(guest: Guest) -> None:
    panic(guest)


def test_fails_by_a_dead_qemu(machine: Machine, guest: Guest) -> None:
    os.kill(machine.process.pid, signal.SIGKILL)
    guest.run("true")


@pytest.fixture
def tidied(guest: Guest) -> Iterator[None]:
    """Use the guest once more when the test is over, whatever became of it."""
    yield
    guest.run("true")


@pytest.mark.usefixtures("tidied")
def test_fails_once_by_a_dead_qemu_that_its_teardown_finds_gone(machine: Machine, guest: Guest) -> None:
    os.kill(machine.process.pid, signal.SIGKILL)
    guest.run("true")


def test_fails_by_a_qemu_that_dies_unnoticed(machine: Machine) -> None:
    os.kill(machine.process.pid, signal.SIGKILL)
    machine.process.wait(Deadline(10, "QEMU's end"))


def test_fails_by_a_hang_in_the_guest(guest: Guest) -> None:
    guest.run("sleep 1000", timeout=0.5)


@pytest.mark.test_timeout(45)
def test_fails_by_a_hang_in_the_guest_that_the_test_does_not_bound(guest: Guest) -> None:
    guest.run("sleep 1000", timeout=1000)


@pytest.mark.test_timeout(45)
def test_errs_by_a_hang_of_its_own(guest: Guest) -> None:
    while guest:
        pass


def test_errs_by_a_mistake(guest: Guest) -> None:
    guest.no_such_method()  # type: ignore[attr-defined]


@pytest.mark.machine("minimal", no_such_parameter=1)
def test_errs_by_a_wrong_mark() -> None:
    raise AssertionError("never reached")


@pytest.mark.machine("minimal", append="rdinit=/nowhere")
def test_misses_a_kernel_that_finds_no_init() -> None:
    raise AssertionError("never reached")


def test_misses_a_module_that_does_not_compile(guest_module: LoadModule, tmp_path: Path) -> None:
    (tmp_path / "Kbuild").write_text("obj-m := bad.o\n")
    (tmp_path / "bad.c").write_text("#include <linux/module.h>\nint bad = no_such_thing;\n")
    guest_module(tmp_path)


def test_errs_by_a_module_that_nobody_knows(guest_module: LoadModule) -> None:
    guest_module("iov-asign")


def test_fails_by_a_module_that_the_kernel_refuses(guest_module: LoadModule) -> None:
    guest_module("iov-assign", function="0000:ff:1f.7")


def test_skips() -> None:
    pytest.skip("does not apply")


@pytest.mark.usefixtures("introspection")
def test_skips_where_the_kernel_has_no_debug_information() -> None:
    raise AssertionError("never reached")


@pytest.mark.needs_kernel("PCI_SIOV")
@pytest.mark.usefixtures("machine")
def test_skips_where_the_kernel_lacks_what_the_test_is_about() -> None:
    raise AssertionError("never reached")


def test_skips_a_module_for_a_kernel_without_headers(machine: Machine, guest_module: LoadModule) -> None:
    parts = machine.spec.parts
    machine.spec = replace(machine.spec, parts=replace(parts, kernel=replace(parts.kernel, headers=None)))
    guest_module("iov-assign")


@pytest.mark.known_bug("the sky is green", kernels=("debian-*",))
def test_known_to_fail() -> None:
    raise AssertionError("as foretold")


@pytest.mark.known_bug("the sky is green", kernels=("debian-*",))
def test_fails_by_passing_unexpectedly(guest: Guest) -> None:
    guest.run("true", check=True)


@pytest.mark.known_bug("the sky is green", kernels=("debian-*",))
def test_errs_although_known_to_fail(guest: Guest) -> None:
    guest.no_such_method()  # type: ignore[attr-defined]


@pytest.mark.known_bug("the sky is green", kernels=("debian-*",))
def test_fails_by_a_panic_that_no_known_bug_foretold(guest: Guest) -> None:
    panic(guest)


@pytest.mark.known_bug("the sky falls", kernels=("6.12.*",), match="sysrq triggered crash")
def test_known_to_panic(guest: Guest) -> None:
    panic(guest)


@pytest.mark.known_bug("the sky is green", match="^as foretold")
def test_fails_by_a_kernel_report_besides_a_known_bug(guest: Guest) -> None:
    splat(guest)
    raise AssertionError("as foretold")


@pytest.mark.known_bug("the sky is green, and warns", match="^as foretold|sriov_enable")
def test_known_to_fail_and_to_warn(guest: Guest) -> None:
    splat(guest)
    raise AssertionError("as foretold")


@pytest.mark.known_bug("of another kernel", kernels=("vax-*",))
def test_fails_where_the_bug_is_not_known() -> None:
    raise AssertionError("a surprise")
