# SPDX-License-Identifier: GPL-2.0-or-later
"""Test cases that hold two guests until somebody ends the run. Run by test_cut_short.py, never collected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.machine.machine import Machine
from harness.pytest_plugin.fixtures import Boot


def hold(machine: Machine) -> None:
    """Say through the FIFO of whoever started the run that the guest is up, and wait in the guest."""
    with Path(os.environ["HELD_FIFO"]).open("wb", buffering=0) as fifo:
        fifo.write(b".")
    machine.guest.run("sleep 1000", timeout=1000)


@pytest.mark.machine("minimal")
@pytest.mark.parametrize("number", [1, 2])
def test_holds_one(machine: Machine, number: int) -> None:
    assert number
    hold(machine)


@pytest.mark.machine("minimal")
def test_holds_both(machine: Machine, boot: Boot) -> None:
    boot("minimal").guest.run("true", check=True)
    hold(machine)
