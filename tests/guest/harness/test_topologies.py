# SPDX-License-Identifier: GPL-2.0-or-later
"""Base machines of other topologies: each has its own checkpoint, and endpoints are plugged where it has room."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import config
from harness.judge import Judge
from harness.machine.parts import Store
from harness.machine.spec import Spec
from harness.machine.start import Starter
from harness.qemu.library import Library

TEMPLATE = """{%% extends "bases/%s.j2" %%}
{%% block plugged %%}
-netdev {"type": "hubport", "id": "net0", "hubid": 1}
-device {"driver": "igb", "id": "igb0", "netdev": "net0", "bus": "%s", "romfile": ""}
{%% endblock %%}
"""
PCI_TEMPLATE = """{% extends "bases/pci-bridge.j2" %}
{% block plugged %}
-device {"driver": "edu", "id": "igb0", "bus": "bridge1", "addr": "1"}
{% endblock %}
"""


def started(folder: Path, base: str, template: str) -> Spec:
    """Describe a machine with one endpoint on a base machine."""
    (folder / "mine.toml").write_text(f"summary = 'an endpoint'\nbase = '{base}'\npfs = ['igb0']\n")
    (folder / "mine.j2").write_text(template)
    library = Library((folder,))
    profile = library.get("mine")
    return Spec(profile, profile.resolve({}), Store(config.load()).parts(), library.folders)


@pytest.mark.parametrize(
    ("base", "bus", "address"),
    [("switch", "dp1", "0000:03:00.0"), ("viommu", "rp2", "0000:02:00.0"), ("pxb", "xrp1", "0000:81:00.0")],
)
@pytest.mark.parametrize("cold", [False, True], ids=["clone", "cold"])
def test_a_pf_is_bound_and_has_vfs_wherever_it_is(
    tmp_path: Path, base: str, bus: str, address: str, cold: bool
) -> None:
    settings = config.load()
    starter = Starter(Store(settings).cache, lambda: tmp_path, settings.boot_timeout, cold=cold)
    with starter.running(started(tmp_path, base, TEMPLATE % (base, bus)), tmp_path) as machine:
        assert machine.start == ("cold" if cold else "clone")
        (pf,) = machine.pfs
        assert (str(pf.bdf), pf.driver) == (address, "igb")
        pf.numvfs = 2
        assert len(pf.vfs) == 2
        judge = Judge()
        judge.machines.append(machine)
        assert judge.complaint() is None


def test_behind_a_pci_bridge_configuration_space_has_256_bytes(tmp_path: Path) -> None:
    settings = config.load()
    starter = Starter(Store(settings).cache, lambda: tmp_path, settings.boot_timeout)
    with starter.running(started(tmp_path, "pci-bridge", PCI_TEMPLATE), tmp_path) as machine:
        (function,) = machine.pfs
        assert (str(function.bdf), len(function.config())) == ("0000:02:01.0", 256)
