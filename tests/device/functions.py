# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions to look at: one that has every capability there is, and one with registers of every kind."""

from __future__ import annotations

from harness.device import capabilities
from harness.device.capabilities import Capability
from harness.device.config_space import Bar, Identity
from harness.device.device import Device
from harness.device.registers import Register

IDENTITY = Identity(0x1B36, 0x0ABC, 0x058000, revision=7, subsystem_vendor_id=0x1234, subsystem_id=0x5678)
SCRATCH = (
    Register("fixed", 0x00, 4, 0x11223344),
    Register("free", 0x04, 4, 0x55667788, rw=0xFFFFFFFF),
    Register("half", 0x08, 4, 0xAAAAAAAA, rw=0x0000FFFF),
    Register("events", 0x0C, 4, 0x000000FF, w1c=0x0000000F),
    Register("wide", 0x10, 8, 0x0123456789ABCDEF, rw=0xFFFFFFFFFFFFFFFF),
    Register("kept", 0x18, 4, 0x1, rw=0xFF, sticky=0xF0),
)


def everything() -> list[Capability]:
    """Give one of every capability that the kit knows, in some order."""
    return [
        capabilities.express_endpoint(),
        capabilities.msix(4, table_bar=4, pba_bar=4, pba_offset=0x800),
        capabilities.vendor_specific(b"\x01\x02\x03\x04\x05"),
        capabilities.raw(0x05 + 0x10, b"\xca\xfe", name="raw standard"),
        capabilities.ats(5),
        capabilities.siov(total_sdis=16, first_sdi_offset=8, sdi_stride=2, status=0x82, capabilities=0xDEADBEEF),
        capabilities.dvsec(0x1AF4, 9, (Register("dvsec_scratch", 0x0C, 4, 1, rw=0xFF),), size=0x10),
        capabilities.pasid(16),
        capabilities.vsec(7, (Register("vsec_scratch", 8, 4, 2, rw=0xF0, w1c=0x0F),), size=0x0C),
        capabilities.serial_number(0x1122334455667788),
        capabilities.raw(0x42, b"abcdefgh", version=3),
        capabilities.intel_siov_dvsec(),
    ]


def function(*, chain: list[Capability] | None = None) -> Device:
    """Give a function with every capability, or those of `chain`, and a BAR of registers."""
    return Device(IDENTITY, everything() if chain is None else chain, {0: Bar(0x1000, SCRATCH), 4: Bar(0x1000)})
