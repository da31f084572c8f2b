# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a kernel's headers are: in packages that its recipe names, or in the tree that it was built in."""

from __future__ import annotations

from pathlib import Path

import pytest
from makings import put
from pydantic import ValidationError

from harness.provision import headers, kernel
from harness.provision.headers import BuildTree, HeadersRecipe


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give the image in a tree in which a kernel was built."""
    put(tmp_path / "o/Makefile", "")
    put(tmp_path / "o/Module.symvers", "")
    put(
        tmp_path / "o/include/config/auto.conf", 'CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-13 (Debian 13.3) 13.3"\n'
    )
    put(tmp_path / "o/vmlinux", "")
    return put(tmp_path / "o/arch/x86/boot/bzImage", "")


def test_the_headers_of_a_release_are_packages_of_that_release() -> None:
    recipe = HeadersRecipe(packages=("headers-{release}", "kbuild-{version}"), compiler="gcc-14")
    found = recipe.of("6.12.107+deb13-amd64", "trixie")
    assert found.packages == ("headers-6.12.107+deb13-amd64", "kbuild-6.12.107+deb13")
    assert (found.suite, found.release, found.compiler) == ("trixie", "6.12.107+deb13-amd64", "gcc-14")


@pytest.mark.parametrize(
    ("packages", "compiler"),
    [((), "gcc-14"), (("headers",), "gcc-14"), (("h-{release}-{x}",), "gcc-14"), (("h-{release}",), "gcc-14; true")],
)
def test_a_recipe_that_makes_no_sense_is_refused(packages: tuple[str, ...], compiler: str) -> None:
    with pytest.raises(ValidationError):
        HeadersRecipe(packages=packages, compiler=compiler)


@pytest.mark.parametrize("name", [name for name in kernel.recipes() if name.startswith("debian-")])
def test_every_kernel_of_the_distribution_has_its_headers_named(name: str) -> None:
    recipe = kernel.recipes()[name].headers
    assert recipe is not None
    assert recipe.of("6.1.2+deb13-amd64", "trixie").packages == (
        "linux-headers-6.1.2+deb13-amd64", "linux-headers-6.1.2+deb13-common", "linux-kbuild-6.1.2+deb13"
    )  # fmt: skip


def test_a_build_tree_is_known_by_its_image_and_by_its_vmlinux(tree: Path, tmp_path: Path) -> None:
    expected = BuildTree(tmp_path / "o", "x86_64-linux-gnu-gcc-13")
    assert headers.beside(tree) == expected
    assert headers.beside(tmp_path / "o/vmlinux") == expected


def test_a_build_tree_that_does_not_name_its_gcc_takes_the_usual_one(tree: Path, tmp_path: Path) -> None:
    for text in ("", 'CONFIG_CC_VERSION_TEXT="Debian clang version 19.1.7"\n'):
        put(tmp_path / "o/include/config/auto.conf", text)
        assert headers.beside(tree) == BuildTree(tmp_path / "o", "gcc")


@pytest.mark.parametrize("name", ["Makefile", "Module.symvers", "include/config/auto.conf"])
def test_a_tree_that_is_not_built_to_its_end_is_none(tree: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "o" / name).unlink()
    assert headers.beside(tree) is None


def test_an_image_alone_has_no_headers(tree: Path, tmp_path: Path) -> None:
    assert headers.beside(tree.rename(tmp_path / "bzImage")) is None
    assert headers.beside(Path("/boot/vmlinuz")) is None
