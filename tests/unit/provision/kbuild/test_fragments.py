# SPDX-License-Identifier: GPL-2.0-or-later
"""Fragments: the harness's own, bad ones, and wishes that Kconfig did not grant."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import paths
from harness.errors import CouldNotRun, UsageError
from harness.provision import kconfig
from harness.provision.kbuild import fragments
from harness.provision.kbuild.fragments import Wish
from harness.provision.kbuild.reasons import Kconfig


@pytest.fixture
def tree(tmp_path: Path) -> Kconfig:
    """Give a tree that knows PCI, and VFIO where there is PCI."""
    text = 'config PCI\n\tbool "PCI"\n\nconfig VFIO\n\tbool "VFIO"\n\tdepends on PCI\n'
    (tmp_path / "Kconfig").write_text(text)
    return Kconfig(tmp_path, "x86")


def fragment(tmp_path: Path, text: str, name: str = "mine") -> str:
    path = tmp_path / f"{name}.config"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["base", "siov", "debug", "no-iov", "powerpc", "s390"])
def test_the_harness_has_these_fragments_and_each_says_why(name: str) -> None:
    assert name in fragments.known()
    assert fragments.read([name])
    for paragraph in (paths.kernels() / f"{name}.config").read_text().split("\n\n"):
        assert paragraph.startswith("# ") or name in ("powerpc", "s390")


def test_only_pci_siov_is_optional() -> None:
    wishes = fragments.read(fragments.known())
    assert [wish.symbol for wish in wishes if wish.optional] == ["PCI_SIOV"]


def test_values_are_read_as_in_a_config(tmp_path: Path) -> None:
    path = fragment(tmp_path, '# why\nCONFIG_A=y\nCONFIG_N=8\nCONFIG_S="a b"\n# CONFIG_B is not set\n')
    wishes = fragments.read([path])
    assert [(wish.symbol, wish.value) for wish in wishes] == [("A", "y"), ("N", "8"), ("S", '"a b"'), ("B", "n")]
    assert str(wishes[0]) == "CONFIG_A=y (mine)"
    config = kconfig.parse('CONFIG_A=y\nCONFIG_N=8\nCONFIG_S="a b"\n')
    assert all(wish.granted(config) for wish in wishes)
    assert fragments.text(wishes) == 'CONFIG_A=y\nCONFIG_N=8\nCONFIG_S="a b"\nCONFIG_B=n\n'


def test_the_later_fragment_counts_where_two_differ(tmp_path: Path) -> None:
    first = fragment(tmp_path, "CONFIG_A=y\nCONFIG_B=y\n", "first")
    second = fragment(tmp_path, "# CONFIG_A is not set\n", "second")
    wishes = {wish.symbol: wish for wish in fragments.read([first, second])}
    assert (wishes["A"].value, wishes["A"].fragment, wishes["B"].fragment) == ("n", "second", "first")


def test_a_paragraph_is_optional_as_a_whole_and_no_further(tmp_path: Path) -> None:
    path = fragment(tmp_path, "CONFIG_A=y\n\n# optional: newer\nCONFIG_B=y\nCONFIG_C=y\n\n# must\nCONFIG_D=y\n")
    assert [wish.symbol for wish in fragments.read([path]) if wish.optional] == ["B", "C"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CONFIG_A=y\nPCI=y\n", "line 2: 'PCI=y' is no line of a .config"),
        ("CONFIG_A = y\n", "line 1: 'CONFIG_A = y' is no line of a .config"),
        ("CONFIG_A=\n", "line 1: 'CONFIG_A=' is no line of a .config"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = fragment(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        fragments.read([path])
    assert str(caught.value) == f"--config {path}, {message}"


def test_an_unknown_fragment_is_told_with_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"unknown fragment 'sivo'; did you mean 'siov'\? \(there are: base, callers, debug, "
    ):
        fragments.read(["base", "sivo"])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--config {tmp_path}/no: No such file or directory"):
        fragments.read([f"{tmp_path}/no"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="binary: it is no text"):
        fragments.read([f"{tmp_path}/binary"])


def test_what_was_granted_is_no_complaint(tree: Kconfig) -> None:
    wishes = [Wish("PCI", "y", "base", optional=False), Wish("VFIO", "n", "base", optional=False)]
    assert fragments.check("k", wishes, {"PCI": "y"}, tree) == []


def test_an_optional_wish_is_skipped_where_the_tree_does_not_know_it(tree: Kconfig) -> None:
    assert fragments.check("k", [Wish("PCI_SIOV", "y", "siov", optional=True)], {}, tree) == ["PCI_SIOV"]


def test_an_optional_wish_that_the_tree_knows_is_not_skipped(tree: Kconfig) -> None:
    with pytest.raises(CouldNotRun, match=r"Kconfig drops CONFIG_VFIO=y \(siov\): it depends on PCI"):
        fragments.check("k", [Wish("VFIO", "y", "siov", optional=True)], {}, tree)


def test_a_dropped_wish_is_told_with_its_reason(tree: Kconfig) -> None:
    with pytest.raises(CouldNotRun) as caught:
        fragments.check("7.3-mine", [Wish("VFIO", "y", "mine", optional=False)], {}, tree)
    reason = "CONFIG_VFIO=y (mine): it depends on PCI (here PCI=n)"
    assert str(caught.value) == f"kernel 7.3-mine: Kconfig drops {reason}"


def test_several_are_told_one_a_line(tree: Kconfig) -> None:
    wishes = [Wish("VFIO", "y", "mine", optional=False), Wish("XYZ", "y", "mine", optional=False)]
    with pytest.raises(CouldNotRun, match="Kconfig drops 2 wishes:") as caught:
        fragments.check("k", wishes, {"PCI": "y"}, tree)
    assert caught.value.detail == (
        "CONFIG_VFIO=y (mine): Kconfig tells no reason\nCONFIG_XYZ=y (mine): this tree has no such symbol"
    )
