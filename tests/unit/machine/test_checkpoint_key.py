# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes another checkpoint of a base machine, and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from harness.machine import start as module
from harness.machine.spec import Spec
from harness.machine.start import key_of


@pytest.mark.parametrize(
    "other",
    [{"kernel": "another build"}, {"append": "debug"}, {"memory": 1024}, {"cpus": 1}, {"accel": "kvm"}],
    ids=str,
)
def test_what_shapes_a_base_machine_is_in_the_key_of_its_checkpoint(lab: Lab, other: dict[str, Any]) -> None:
    assert key_of(lab.spec(**other)) != key_of(lab.spec())


@pytest.mark.parametrize("profile", ["nvme-sriov", "virtio-sriov", "minimal"])
def test_what_is_plugged_is_not_in_the_key(lab: Lab, profile: str) -> None:
    assert key_of(lab.spec(profile)) == key_of(lab.spec())


@pytest.mark.parametrize("plugged", [{"sriov_max_vfs": 7}, {"msix_qsize": 100}], ids=str)
def test_how_it_is_plugged_is_not_in_the_key(lab: Lab, plugged: dict[str, Any]) -> None:
    assert key_of(lab.spec("nvme-sriov", **plugged)) == key_of(lab.spec("nvme-sriov"))


def change(part: str, **new: Any) -> Callable[[Spec], Spec]:
    def changed(spec: Spec) -> Spec:
        there = getattr(spec.parts, part)
        return replace(spec, parts=replace(spec.parts, **{part: replace(there, **new) if new else Path("/other")}))

    return changed


@pytest.mark.parametrize(
    "changed",
    [change("initramfs"), change("kernel", image=Path("/other")), change("qemu", version="11"),
     change("qemu", package="Debian 1")],
    ids=["guest root", "kernel image", "QEMU version", "QEMU package"],
)  # fmt: skip
def test_other_parts_make_another_checkpoint(lab: Lab, changed: Callable[[Spec], Spec]) -> None:
    assert key_of(changed(lab.spec())) != key_of(lab.spec())


def test_a_qemu_that_was_built_again_makes_another_checkpoint(lab: Lab) -> None:
    before = key_of(lab.spec())
    os.utime(lab.folder / "qemu", (1, 1))
    again = key_of(lab.spec())
    (lab.folder / "qemu").write_bytes(b"larger")
    os.utime(lab.folder / "qemu", (1, 1))
    assert len({before, again, key_of(lab.spec())}) == 3


def test_only_a_guest_that_sees_the_hosts_processor_depends_on_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {accel: key_of(lab.spec(accel=accel)) for accel in ("tcg", "kvm")}
    monkeypatch.setattr(module, "_host_cpu", lambda: "model name: other")
    assert key_of(lab.spec()) == here["tcg"]
    assert key_of(lab.spec(accel="kvm")) != here["kvm"]
