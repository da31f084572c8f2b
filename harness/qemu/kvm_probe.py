# SPDX-License-Identifier: GPL-2.0-or-later
"""Proves that KVM runs guest code at the speed of hardware: `python -m harness.qemu.kvm_probe`.

A `/dev/kvm` that opens is no proof: on a host with kvm_pvm it opens, machines can be made, and instructions are then
emulated one by one. So a loop is run in a machine of one page and timed. It has a process of its own because KVM_RUN
may hang; that is also why nothing here is closed: the end of the process does it.

Prints one line of JSON: `{"turn_ns": 0.4}` with exit code 0, or `{"error": "..."}` with exit code 1.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import signal
import struct
import sys
import time
from enum import IntEnum
from pathlib import Path

KVM_DEVICE = Path("/dev/kvm")
TURNS = 20_000
"""Turns of the loop in a run (CX has 16 bits): some 20 us on hardware, where entering a guest costs only a few."""
RUNS = 3
"""Runs, of which the quickest counts: the first one pays for page faults, and any may lose the CPU for a while."""
ALARM = 2.0
"""Seconds after which the probe gives up by itself: a KVM_RUN that never ends can mostly still be interrupted."""

# Documentation/virt/kvm/api.rst: any other version is to be refused, and Intel wants three pages below 4 GiB which no
# memory covers (older processors have no real mode of their own). fcntl.ioctl takes a signed int, hence a low address.
_API_VERSION = 12
_TSS_ADDRESS = 0x10_0000
_EXIT_REASON = 8  # offset in struct kvm_run, include/uapi/linux/kvm.h
_EXIT_HLT = 5  # KVM_EXIT_HLT there
_CX = 2  # index in struct kvm_regs, arch/x86/include/uapi/asm/kvm.h: rax, rbx, rcx, ..., rip, rflags
_REGS = struct.Struct("=18Q")
_SREGS_SIZE = 312  # sizeof(struct kvm_sregs) there
_LOOP = bytes.fromhex("49 75fd f4")  # l: dec cx; jnz l; hlt


class Request(IntEnum):
    """The ioctls that are used: include/uapi/linux/kvm.h, as encoded on x86."""

    KVM_GET_API_VERSION = 0xAE00
    KVM_CREATE_VM = 0xAE01
    KVM_GET_VCPU_MMAP_SIZE = 0xAE04
    KVM_CREATE_VCPU = 0xAE41
    KVM_SET_USER_MEMORY_REGION = 0x4020_AE46
    KVM_SET_TSS_ADDR = 0xAE47
    KVM_RUN = 0xAE80
    KVM_GET_REGS = 0x8090_AE81
    KVM_SET_REGS = 0x4090_AE82
    KVM_GET_SREGS = 0x8138_AE83
    KVM_SET_SREGS = 0x4138_AE84


class ProbeFailed(Exception):
    """KVM does not work; the text says in one line what went wrong."""


def _ioctl(fd: int, request: Request, argument: int | bytearray = 0) -> int:
    """Do one ioctl; a bytearray is filled in. Raises `ProbeFailed` naming it."""
    try:
        return fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise ProbeFailed(f"{request.name}: {error.strerror}") from error


def _machine(kvm: int, page: mmap.mmap) -> int:
    """Make a virtual machine whose only memory is `page`, at address 0; gives its file descriptor.

    The caller keeps `page`: unmapping it here would take it from the guest.
    """
    vm = _ioctl(kvm, Request.KVM_CREATE_VM)
    _ioctl(vm, Request.KVM_SET_TSS_ADDR, _TSS_ADDRESS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    # struct kvm_userspace_memory_region: slot, flags, the guest's address, size in bytes, our address.
    region = struct.pack("=IIQQQ", 0, 0, 0, len(page), address)
    _ioctl(vm, Request.KVM_SET_USER_MEMORY_REGION, bytearray(region))
    return vm


def _vcpu(vm: int) -> int:
    """Make a virtual CPU in real mode whose code segment starts at address 0; gives its file descriptor."""
    vcpu = _ioctl(vm, Request.KVM_CREATE_VCPU)
    sregs = bytearray(_SREGS_SIZE)
    _ioctl(vcpu, Request.KVM_GET_SREGS, sregs)
    struct.pack_into("=QIH", sregs, 0, 0, 0xFFFF, 0)  # cs comes first: base, limit, selector
    _ioctl(vcpu, Request.KVM_SET_SREGS, sregs)
    return vcpu


def _run(vcpu: int, state: mmap.mmap) -> float:
    """Run the loop once; gives nanoseconds per turn. Raises `ProbeFailed` unless the guest ran it to its end."""
    registers = [0] * 18
    registers[_CX], registers[-1] = TURNS, 2  # bit 1 of rflags is always set
    _ioctl(vcpu, Request.KVM_SET_REGS, bytearray(_REGS.pack(*registers)))
    start = time.perf_counter_ns()
    _ioctl(vcpu, Request.KVM_RUN)
    elapsed = time.perf_counter_ns() - start
    (reason,) = struct.unpack_from("=I", state, _EXIT_REASON)
    if reason != _EXIT_HLT:
        raise ProbeFailed(f"KVM_RUN: exit reason {reason} instead of {_EXIT_HLT} (KVM_EXIT_HLT)")
    after = bytearray(_REGS.size)
    _ioctl(vcpu, Request.KVM_GET_REGS, after)
    if left := _REGS.unpack(after)[_CX]:
        raise ProbeFailed(f"KVM_RUN: the guest halted with {left} of {TURNS} turns to go")
    return elapsed / TURNS


def turn_ns(device: Path = KVM_DEVICE) -> float:
    """Measure nanoseconds per turn of a loop of two instructions; raises `ProbeFailed`. May hang: see `ALARM`."""
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ProbeFailed(f"{device}: {error.strerror}") from error
    version = _ioctl(kvm, Request.KVM_GET_API_VERSION)
    if version != _API_VERSION:
        raise ProbeFailed(f"KVM_GET_API_VERSION: {version} instead of {_API_VERSION}")
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write(_LOOP)
    vcpu = _vcpu(_machine(kvm, page))
    state = mmap.mmap(vcpu, _ioctl(kvm, Request.KVM_GET_VCPU_MMAP_SIZE))
    return min(_run(vcpu, state) for _ in range(RUNS))


def _give_up(*_: object) -> None:
    raise ProbeFailed(f"a guest that has to halt at once did not within {ALARM:g} s")


def main(device: Path = KVM_DEVICE) -> int:
    """Measure, print the line of JSON, give the exit code."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, ALARM)
    try:
        answer: dict[str, float | str] = {"turn_ns": turn_ns(device)}
    except ProbeFailed as error:
        answer = {"error": str(error)}
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
