# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules loaded into and unloaded from a guest that notes what it is asked for."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.guest import agent, module
from harness.guest.agent import Agent, Answer, Call, GuestErrno
from harness.guest.guest import Guest
from harness.guest.ssh import COMMAND_TIMEOUT


class Kernel(Agent):
    """Does what it is asked, or gives `errno`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.errno = 0

    def batch(self, calls: Sequence[Call], *, timeout: float = COMMAND_TIMEOUT) -> list[Answer]:  # noqa: ARG002
        self.calls += calls
        return [Answer(call, self.errno, b"") for call in calls]


class Machine(Guest):
    """A guest whose files are a mapping."""

    def __init__(self) -> None:
        self.agent = self.kernel = Kernel()
        self.files: dict[str, bytes] = {}

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:  # noqa: ARG002
        self.files[path] = data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a module."""
    (tmp_path / "iov-x.ko").write_bytes(b"\x7fELF")
    return tmp_path / "iov-x.ko"


def test_a_module_is_copied_and_loaded_with_one_call_and_unloaded_by_the_kernels_name_for_it(file: Path) -> None:
    guest = Machine()
    loaded = module.load(guest, file)
    assert guest.files == {"/tmp/iov-x.ko": b"\x7fELF"}  # noqa: S108 - the guest's
    loaded.unload()
    assert guest.kernel.calls == [agent.insert("/tmp/iov-x.ko"), agent.remove("iov_x")]  # noqa: S108 - the guest's


def test_a_parameters_value_may_hold_spaces_and_a_truth_is_a_number(file: Path) -> None:
    guest = Machine()
    module.load(guest, file, name="a b", count=3, on=True, off=False, nothing="")
    (call,) = guest.kernel.calls
    assert bytes.fromhex(call.words[0]).decode() == 'name="a b" count="3" on="1" off="0" nothing=""'


def test_a_refusal_tells_its_errno_and_the_parameters(file: Path) -> None:
    guest = Machine()
    guest.kernel.errno = errno.ENODEV
    with pytest.raises(GuestErrno, match=r'^loading /tmp/iov-x\.ko a="1": ENODEV'):
        module.load(guest, file, a=1)
    guest.kernel.errno = 0
    loaded = module.load(guest, file)
    guest.kernel.errno = errno.EWOULDBLOCK
    with pytest.raises(GuestErrno, match=r"^unloading iov_x: EAGAIN"):
        loaded.unload()
