# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever function is declared, software finds through QEMU what was declared, or it cannot be declared."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness import chain
from harness.device import capabilities
from harness.device.capabilities import Capability
from harness.device.config_space import Bar, Identity
from harness.device.device import Device
from harness.device.registers import Register
from harness.machine import lane as lanes

AT_ONCE = 5
"""Functions in one QEMU, each behind a port of its own."""
TAKEN_BY_QEMU = {0x00, 0x10, 0x0E, 0x15}
"""Extended capabilities that QEMU drops, or alters (resizable BARs)."""

words = st.integers(0, 0xFFFF)
dwords = st.integers(0, 0xFFFFFFFF)


@st.composite
def scratch(draw: st.DrawFn, name: str, offset: int) -> Register:
    """A dword whose bits are of any kind."""
    rw = draw(dwords)
    return Register(name, offset, 4, draw(dwords), rw, draw(dwords) & ~rw)


@st.composite
def extended(draw: st.DrawFn) -> Capability:
    """An extended capability: one that has a name, or any other."""
    kind = draw(st.sampled_from(["siov", "dsn", "ats", "pasid", "dvsec", "vsec", "raw"]))
    if kind == "siov":
        total, offset, stride, status = draw(words), draw(words), draw(words), draw(st.integers(0, 255))
        return capabilities.siov(total_sdis=total, first_sdi_offset=offset, sdi_stride=stride, status=status)
    if kind == "dsn":
        return capabilities.serial_number(draw(st.integers(0, (1 << 64) - 1)))
    if kind == "dvsec":
        return capabilities.dvsec(draw(words), draw(words), [draw(scratch("dvsec_bits", 0xC))], size=0x10)
    if kind == "vsec":
        return capabilities.vsec(draw(words), [draw(scratch("vsec_bits", 8))], size=0xC)
    if kind == "raw":
        id_ = draw(words.filter(lambda id_: id_ not in TAKEN_BY_QEMU and id_ != 0xFFFF))
        return capabilities.raw(id_, draw(st.binary(max_size=64)), version=draw(st.integers(0, 15)))
    return capabilities.ats(draw(st.integers(0, 31))) if kind == "ats" else capabilities.pasid(draw(st.integers(1, 20)))


@st.composite
def functions(draw: st.DrawFn) -> Device:
    """A PCI Express function with any chain of extended capabilities, some of them spread out, and any registers."""
    at = 0x100
    chained = []
    for one in draw(st.lists(extended(), max_size=8)):
        chained.append(one.placed(at))
        at += max(8, (one.size + 3) // 4 * 4) + 4 * draw(st.integers(0, 40))
    class_code, revision = draw(st.integers(0, 0xFFFFFF)), draw(st.integers(0, 255))
    identity = Identity(draw(st.integers(1, 0xFFFE)), draw(words), class_code, revision)
    bar = Bar(0x1000, tuple(draw(scratch(f"bits_{n}", 4 * n)) for n in range(draw(st.integers(0, 3)))))
    return Device(identity, [capabilities.express_endpoint(), *chained], {draw(st.integers(0, 5)): bar})


# Without shrinking, which would start hundreds of QEMUs.
@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)  # fmt: skip
@given(st.lists(functions(), min_size=AT_ONCE, max_size=AT_ONCE))
def test_any_function_is_found_as_it_was_declared(qemu: Path, devices: list[Device]) -> None:
    with lanes.running(qemu, devices) as lane:
        for number, device in enumerate(devices):
            seen = lane.function(number)
            identity = device.identity
            assert (seen.read(0, 2), seen.read(2, 2)) == (identity.vendor_id, identity.device_id)
            assert seen.read(8) == identity.class_code << 8 | identity.revision
            declared = [(one.at, one.capability.id, one.capability.version) for one in device.config.capabilities]
            config = seen.config()
            assert [tuple(link) for link in chain.extended(config)] == declared[1:]
            assert config[0x100:] == device.config.peek(0x100, 0xF00)
            (address,) = lane.board.place_bars(seen).values()
            (bar,) = device.bars.values()
            for register in bar.registers:
                lane.qtest.write(address + register.offset, 0xFFFFFFFF)
                expected = register.value & ~register.w1c | register.rw
                assert lane.qtest.read(address + register.offset) == expected
